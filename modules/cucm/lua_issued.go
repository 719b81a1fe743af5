package cucm

import (
	"moonseal/modules/x509"
	"moonseal/runtime/bind"
)

func (b *binding) issued() *bind.Func {
	return &bind.Func{
		Name: "issued",
		Doc: "Looks in the state directory for the certificate that an earlier run got for a service of this node. If it is the installed one and is not served, " +
			"a restart is all that is missing.",
		Returns: "the certificate, or nil",
		Example: `local ours = node:issued "tomcat"`,
		Impl: bind.Read(func(c *bind.Call, n *Node, a *serviceArgs) (*x509.Certificate, error) {
			leaf, chain, err := c.Account.Certificate(n.Host, a.Service)
			if err != nil || leaf == "" {
				return nil, err
			}
			return joined(leaf, chain)
		}),
	}
}

// joined returns a kept certificate with its kept chain, which begins with it. A
// crash between the two files leaves a chain of another one.
func joined(leaf, chain string) (*x509.Certificate, error) {
	cert, err := x509.Parse(leaf)
	if err != nil {
		return nil, err
	}
	if whole, err := x509.Parse(chain); err == nil && whole.SHA256 == cert.SHA256 {
		return whole, nil
	}
	return cert, nil
}
