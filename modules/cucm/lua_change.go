package cucm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"moonseal/modules/x509"
	"moonseal/runtime/bind"
	"moonseal/runtime/problem"
)

func (b *binding) csr() *bind.Func {
	return &bind.Func{
		Name: "csr", Table: true,
		Doc: "Makes the node generate a key, which it keeps, and a signing request. There is one pending request for each service: a new one overwrites it, " +
			"so one that this moonseal did not make is refused as a `conflict` unless `replace_pending` is set. " +
			"The request may hold the node's name, `common_name`, `alt_names`, `members` and `names`, and for multi-server the domains of the nodes; any other name is a `mismatch`.",
		Returns: "the signing request",
		Example: `local csr = ctx:step("generating_csr", function() return node:csr { service = "tomcat" } end)`,
		Impl: bind.Effectful(bind.Effect[Node, CSRRequest, CSRLook, *x509.CSR]{
			WindowBound: true,
			Check: func(n *Node, a *CSRRequest) error {
				if err := mayChange(cmp.Or(a.Service, "tomcat"), n.AllowPhoneLockout); err != nil {
					return err
				}
				return a.check()
			},
			Look: func(c *bind.Call, n *Node, a *CSRRequest) (CSRLook, **x509.CSR, error) {
				r, err := ours(c, n, *a)
				if err != nil {
					return CSRLook{}, nil, err
				}
				if err := asked(c, r); err != nil {
					return CSRLook{}, nil, err
				}
				look, err := with(b, c, n, func(cl *Client) (CSRLook, error) { return cl.LookCSR(c.Context, r) })
				return look, nil, err
			},
			Do: func(c *bind.Call, n *Node, a *CSRRequest, _ CSRLook) (*x509.CSR, error) {
				client, err := b.client(c, n)
				if err != nil {
					return nil, err
				}
				csr, err := client.GenerateCSR(c.Context, *a)
				if err != nil {
					return nil, err
				}
				// Also a request that is refused is ours: the next one may overwrite it.
				if err := keep(c, csr); err != nil {
					return nil, err
				}
				return csr, client.checkNames(*a, csr)
			},
			Probe: func(c *bind.Call, n *Node, a *CSRRequest, look CSRLook) (*x509.CSR, bool, error) {
				client, err := b.client(c, n)
				if err != nil {
					return nil, false, err
				}
				csr, happened, err := client.ProbeCSR(c.Context, *a, look)
				if err != nil || !happened {
					return nil, false, err
				}
				// One with other names is made anew, which says what is wrong with it.
				return csr, client.checkNames(*a, csr) == nil, keep(c, csr)
			},
			Repeatable: true,
		}),
	}
}

// ours adds the request that was kept last for the service to those that may be
// overwritten.
func ours(c *bind.Call, n *Node, r CSRRequest) (CSRRequest, error) {
	r = r.withDefaults(n.Host)
	text, err := c.Account.CSR(n.Host, r.Service)
	if err != nil || text == "" {
		return r, err
	}
	if kept, err := x509.ParseCSR(text); err == nil { // a damaged file is not ours
		r.Ours = append(r.Ours, kept.KeySHA256)
	}
	return r, nil
}

// asked refuses, before the node is changed, names that the playbook may have no
// certificate for.
func asked(c *bind.Call, r CSRRequest) error {
	for _, name := range append([]string{r.CommonName}, r.AltNames...) {
		if err := c.Network.Name(name); err != nil {
			return err
		}
	}
	return nil
}

// keep stores a request where ours finds it.
func keep(c *bind.Call, csr *x509.CSR) error {
	if err := c.Account.SaveCSR(csr.Host, csr.Service, csr.PEM); err != nil {
		return unknown(err)
	}
	return nil
}

func (b *binding) upload() *bind.Func {
	return &bind.Func{
		Name: "upload",
		Doc: "Installs a certificate. First, without changing anything: its dates, no wildcard, the pending request's key and names, the chain up to a root by signatures, " +
			"clientAuth (a warning), and the trust store's rule of one certificate for each common name. Then root and intermediates that the trust store lacks, then the certificate. " +
			"It is served after `restart`. An upload cannot be rolled back: no key leaves the node.",
		Returns: "what was uploaded",
		Example: `ctx:step("uploading_certificate", function() return node:upload("tomcat", cert) end)`,
		Impl: bind.Effectful(bind.Effect[Node, uploadArgs, UploadLook, *Uploaded]{
			WindowBound: true, Disruptive: true,
			Look: func(c *bind.Call, n *Node, a *uploadArgs) (UploadLook, **Uploaded, error) {
				client, err := b.client(c, n)
				if err != nil {
					return UploadLook{}, nil, err
				}
				look, err := client.LookUpload(c.Context, a.Service, a.Certificate)
				if err != nil || !look.Installed {
					return look, nil, err
				}
				return look, found(&Uploaded{Host: n.Host, Service: a.Service, SHA256: a.Certificate.SHA256, Trust: []string{}}), nil
			},
			Do: func(c *bind.Call, n *Node, a *uploadArgs, _ UploadLook) (*Uploaded, error) {
				return with(b, c, n, func(cl *Client) (*Uploaded, error) { return cl.Upload(c.Context, a.Service, a.Certificate) })
			},
			Probe: func(c *bind.Call, n *Node, a *uploadArgs, _ UploadLook) (*Uploaded, bool, error) {
				client, err := b.client(c, n)
				if err != nil {
					return nil, false, err
				}
				return client.ProbeUpload(c.Context, a.Service, a.Certificate)
			},
		}),
	}
}

type restartArgs struct {
	Service string         `lua:"service" doc:"the certificate's type, such as tomcat"`
	Options restartOptions `lua:"options,optional" doc:"what to expect and to restart"`
}

type restartOptions struct {
	Expect   *x509.Certificate `lua:"expect,optional" doc:"must be the installed certificate, else it is a conflict; nothing is done where it is served already"`
	Services []string          `lua:"services,optional" doc:"restart these, as the node spells them, instead of those that the certificate's type needs"`
}

// check refuses names that no service has, and one that is named twice.
func (o *restartOptions) check() error {
	for i, name := range o.Services {
		key := fmt.Sprintf("options.services[%d]", i+1)
		switch {
		case !serviceName(name):
			return problem.Invalid(key, fmt.Sprintf("must be a service as the node spells it, such as %q, got %q", tomcatService, name))
		case slices.ContainsFunc(o.Services[:i], func(other string) bool { return strings.EqualFold(other, name) }):
			return problem.Invalid(key, fmt.Sprintf("is %q again: a service is restarted once", name))
		}
	}
	return nil
}

// serviceName reports whether s can be the name of a service.
func serviceName(s string) bool {
	return s != "" && len(s) <= mostName && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune(`[]"'`+"`;|", r) })
}

func (a *restartArgs) request() RestartRequest {
	return RestartRequest{Service: a.Service, Expect: a.Options.Expect, Services: a.Options.Services}
}

func (b *binding) restart() *bind.Func {
	return &bind.Func{
		Name: "restart",
		Doc: "Restarts, over SSH and one by one, the services that use a certificate: for `tomcat` Cisco Tomcat, and those of UDS and AXL Tomcat, DRF and TFTP that run. " +
			"How far it has come is journaled, so that Tomcat is not restarted twice; the others may be if a process dies between them. " +
			"What the node prints is no proof: poll `serves` afterwards. " +
			"If an earlier run began this restart for `expect` and Tomcat still serves another certificate, nothing is restarted: the run parks and says what is served.",
		Returns: "what was restarted",
		Example: `ctx:step("restarting_services", function() return node:restart("tomcat", { expect = cert }) end)`,
		Impl: bind.Effectful(bind.Effect[Node, restartArgs, RestartLook, *Restarted]{
			WindowBound: true, Disruptive: true, Half: restartedHalf,
			Check: func(n *Node, a *restartArgs) error {
				if err := mayChange(a.Service, n.AllowPhoneLockout); err != nil {
					return err
				}
				return a.Options.check()
			},
			Look: func(c *bind.Call, n *Node, a *restartArgs) (RestartLook, **Restarted, error) {
				client, earlier, err := b.resumed(c, n)
				if err != nil {
					return RestartLook{}, nil, err
				}
				look, done, err := client.LookRestart(c.Context, a.request(), earlier)
				if err == nil && done == nil && len(earlier.Services) == 0 {
					done, err = once(c, n, a, look)
				}
				if err != nil || done != nil {
					client.Close() // no restart follows
				}
				return look, found(done), err
			},
			Do: func(c *bind.Call, n *Node, a *restartArgs, look RestartLook) (*Restarted, error) {
				client, earlier, err := b.resumed(c, n)
				if err != nil {
					return nil, err
				}
				m := &marker{c: c, host: n.Host, service: a.Service, look: look}
				done, err := client.Restart(c.Context, a.request(), look, earlier, m.progress)
				if err != nil {
					m.failed()
				}
				return done, err
			},
			Probe: func(c *bind.Call, n *Node, a *restartArgs, look RestartLook) (*Restarted, bool, error) {
				client, earlier, err := b.resumed(c, n)
				if err != nil {
					return nil, false, err
				}
				done, happened, err := client.ProbeRestart(c.Context, a.request(), look, earlier)
				if err != nil || happened {
					return done, happened, err
				}
				// The pass that follows is a new effect; this is how it learns of the old one.
				c.Earlier, err = json.Marshal(look.Progress(earlier))
				return nil, false, err
			},
		}),
	}
}

// restartedHalf says how far a restart has come.
func restartedHalf(n *Node, a *restartArgs, progress json.RawMessage) string {
	var p RestartProgress
	if err := json.Unmarshal(progress, &p); err != nil {
		return "how far it has come cannot be read back: " + err.Error()
	}
	states := map[string]string{}
	for _, s := range merge(p.Look.Before, p.Services) {
		states[s.Service] = s.State
	}
	all := slices.Clone(p.Look.Services)
	for _, s := range p.Look.Before {
		if !slices.Contains(all, s.Service) {
			all = append(all, s.Service)
		}
	}
	left := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return states[name] == Done })
	if len(left) == 0 {
		return ""
	}
	return fmt.Sprintf("of %s, for %s, %d of %d services are restarted; not, or not surely: %s", n.Host, a.Service, len(all)-len(left), len(all), strings.Join(left, ", "))
}

// resumed returns a client, and what an earlier pass of the restart reported.
func (b *binding) resumed(c *bind.Call, n *Node) (*Client, RestartProgress, error) {
	var earlier RestartProgress
	if len(c.Earlier) > 0 {
		if err := json.Unmarshal(c.Earlier, &earlier); err != nil {
			return nil, earlier, &problem.Error{Kind: problem.Internal, Target: n.Host, Message: "the journaled progress cannot be read back: " + err.Error(), Cause: err}
		}
	}
	client, err := b.client(c, n)
	return client, earlier, err
}
