package cucm

import (
	"fmt"
	"time"

	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
	"moonseal/runtime/secret"
)

// HostNames implements [bind.Hosted].
func (n *Node) HostNames() []string { return []string{n.Host} }

// account is the user name and the node: appliances lock accounts by it.
func (n *Node) account() string {
	name, _ := n.Username.(string)
	if h, ok := n.Username.(secret.Handle); ok {
		name = h.String()
	}
	return fmt.Sprintf("%s@%s:%d", name, n.Host, n.Port)
}

// examine tries a node's REST API and its SSH prompt. The password is tried at SSH only if
// REST has not refused it, so that a wrong one is tried once.
func (b *binding) examine(c *bind.Call, n *Node, _ []string) []bind.Finding {
	rest, shell := bind.Finding{What: "node " + n.Host + " REST"}, bind.Finding{What: "node " + n.Host + " SSH"}
	client, err := b.client(c, n)
	if err != nil {
		return []bind.Finding{{What: "node " + n.Host, Error: problem.From(err)}}
	}
	cert, err := client.Identity(c.Context, "tomcat")
	if err != nil {
		rest.Error = problem.From(err)
	} else {
		rest.Note = "shows a trusted certificate and accepts the login; tomcat's certificate expires on " + cert.NotAfter.Format(time.DateOnly)
	}
	if kind(err) == problem.Auth {
		shell.Note = "not tried: REST has refused the login, and appliances lock accounts"
		return []bind.Finding{rest, shell}
	}
	if err := client.Login(c.Context); err != nil {
		shell.Error = problem.From(err)
	} else {
		shell.Note = "shows the pinned key and accepts the login"
	}
	return []bind.Finding{rest, shell}
}
