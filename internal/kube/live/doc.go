// Package live reads what runs in a cluster: it names the marks by which
// Portolan knows its objects, decodes of them only what is shown, watches them
// without caches, and turns them into observations. The adapter and the
// observer share it, so that both see the same.
package live
