// Package cloudtest stands in for the clouds: it checks tokens and the requests
// for them as their own servers would, and answers the API server's question of
// whose a token is.
package cloudtest
