// Package api connects the command line to the daemon: HTTP and JSON over a unix socket.
// The example shows a request.
//
// # Access control
//
// The socket is 0600, or 0660 with a group that the config names: every user who can open
// it may do everything. The user is that of the socket's peer (SO_PEERCRED, unix(7)) and,
// if that is root, the one behind sudo that the client sends in the header Moonseal-User.
// The daemon logs it with every change.
//
// # Errors
//
// A *problem.Error is sent as {"error": …} with a status of 4xx or 5xx, and the client
// returns it unchanged. [ErrNoDaemon] is the error of a socket without a listener.
//
// # JSON
//
// A list is [] or left out, never null; see [List]. What is not known is null or left out.
package api
