package views

import "portolan/views/ui"

// Setup is the page that makes the first administrator. Its form has the fields
// email, password and token.
type Setup struct {
	Form ui.Form
}

// Login is the sign-in page. Its form has the fields email and password, and
// next when there is an address to go on to.
type Login struct {
	Form ui.Form
	Next string
	// Unsaved: the person sent a form, and was not signed in any more.
	Unsaved bool
}

// Invite is the page on which an invitation is accepted. Its form has the
// fields token and password.
type Invite struct {
	Form ui.Form
}

// Failure is what an error page or fragment says: what happened, why, and what
// to do about it.
type Failure struct {
	Status int // of the response
	Title  string
	Cause  string
	Remedy string
	Links  []Option // where to go from here: Value is the address
	Ref    string   // to look for in the server's log; may be empty
}

// Confirm asks for the typed name of what is about to be destroyed. Its form
// has the field confirm, and keep_volumes when Volumes holds any.
type Confirm struct {
	Title   string // such as "Delete support-eu"
	Says    []string
	Action  string   // address of the POST
	Word    string   // what has to be typed
	Submit  string   // text of the button
	Back    string   // address of the link that gives it up
	Volumes []string // that are deleted unless they are kept
	Tells   bool     // the form sends the Volumes that it shows
	Form    ui.Form
	Blocked *Failure // why it is not possible; the form is then not shown
}
