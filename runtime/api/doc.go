// Package api is how the command line talks to the daemon: HTTP and JSON over a
// unix socket.
//
//	c := api.Dial(socket)
//	status, err := c.Status(ctx)
//
// # Who may
//
// The socket is 0600, or 0660 with a group that the config names: whoever can
// open it may do everything. Who it was is taken from the socket (SO_PEERCRED,
// unix(7)) and, for sudo, from what the client says of its own user when it runs
// as root: the header Moonseal-User. The daemon logs it with whatever is changed.
//
// # Errors
//
// A *problem.Error travels as {"error": …} with a status of 4xx or 5xx and comes
// out of the client as it went in. [ErrNoDaemon] is the error of a socket that
// nobody listens on.
package api
