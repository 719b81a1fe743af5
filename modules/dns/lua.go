package dns

import (
	"context"
	"time"

	"moonseal/runtime/bind"
	"moonseal/runtime/secret"
)

// Settings are those under modules.dns in the config.
type Settings struct {
	// Resolvers are asked if a zone names none, host or host:port; this machine's when
	// empty.
	Resolvers    []string      `yaml:"resolvers"`
	Timeout      time.Duration `yaml:"timeout"`       // of one request to a provider's API; 30s when 0
	QueryTimeout time.Duration `yaml:"query_timeout"` // of one DNS question over one transport; 3s when 0
}

// Module is what require "dns" returns.
func Module() *bind.Module {
	b := &binding{settings: &Settings{}}
	return &bind.Module{
		Name:     "dns",
		Doc:      "Writes, watches and removes the TXT records that prove the control of a name (RFC 8555 section 8.4).",
		Settings: b.settings,
		Functions: []*bind.Func{{
			Name: "zone", Table: true,
			Doc: "Describes a zone and who takes its records: `cloudflare` (needs `api_token`), `digitalocean` (`api_token`), " +
				"`route53` (`access_key_id`, `secret_access_key`) or `rfc2136` (`server`, `key_name`, `key`). No request is sent yet. " +
				"`propagation` says how it is found out that records are published. Its mode `authoritative` asks all servers of the zone, and then the `resolvers` that it names, " +
				"last because they cache absence. If port 53 to the zone's servers is blocked: `resolvers` asks resolvers only, `doh` DNS over HTTPS (RFC 8484) only, " +
				"through the proxy if there is one, and `wait` sends no query and waits.",
			Returns: "the zone",
			Example: `local zone = dns.zone { provider = "cloudflare", api_token = secret "CF_API_TOKEN" }`,
			Impl:    bind.Pure(func(z *Zone) (*Zone, error) { return z, z.Check() }),
		}},
		Types: []*bind.Type{
			bind.Examined(bind.Handle[Zone]("dns.Zone", 1, "A DNS zone, and how its records are changed.",
				b.check(), b.present(), b.propagated(), b.remove(), b.records()), func(z *Zone) string { return z.key() }, b.examine),
		},
		Plain: []*bind.Type{
			bind.Table[Challenge]("dns.Challenge", "What has to be published to prove a name. An order's challenges are such tables."),
			bind.Table[Record]("dns.Record", "A record as its provider knows it."),
		},
	}
}

// binding is the module's state: its settings, and a client for each run, so that
// a run's steps share connections and what was looked up about zones.
type binding struct {
	settings *Settings
	clients  bind.Clients[none, *Client]
}

type none struct{}

func (b *binding) client(c *bind.Call) *Client {
	client, _ := b.clients.Get(c, none{}, func() (*Client, error) { // which returns no error
		return New(Options{
			Dial: c.Network.Dial, Config: c.Network.DialConfigured, Ask: c.Network.DialDNS, HTTP: c.Network.Transport(),
			Clock: c.Clock, Resolvers: b.settings.Resolvers, RequestTimeout: b.settings.Timeout, QueryTimeout: b.settings.QueryTimeout,
			Secret: func(ctx context.Context, h secret.Handle) (string, error) { return c.Secret(h)(ctx) },
		}), nil
	})
	return client
}

type checkArgs struct {
	Names []string `lua:"names" doc:"DNS names that are to be proven; those in no zone are left out, and so are those in another than this one, unless all are"`
}

func (b *binding) check() *bind.Func {
	return &bind.Func{
		Name: "check",
		Doc: "Looks whether the provider accepts the credentials and has the zones of the names, and whether the zones' servers can be reached if they have to show the records, " +
			"and changes nothing: a wrong token fails the run before it has changed anything. " +
			"Whether the credentials may write shows only when a record is written.",
		Returns: "the zones",
		Example: `zone:check(node:identity("tomcat").names)`,
		Impl: bind.Read(func(c *bind.Call, z *Zone, a *checkArgs) ([]string, error) {
			names, err := grantedOf(c, a.Names)
			if err != nil {
				return nil, err
			}
			return b.client(c).Check(c.Context, *z, names)
		}),
	}
}

type challengesArgs struct {
	Challenges []Challenge `lua:"challenges" doc:"an order's challenges"`
}

// holds names what the undo of present takes away.
func (a *challengesArgs) holds() []string {
	out := make([]string, 0, len(a.Challenges))
	for _, ch := range a.Challenges {
		out = append(out, ch.Held())
	}
	return out
}

func (b *binding) present() *bind.Func {
	return &bind.Func{
		Name: "present",
		Doc: "Publishes challenges: lists what is at their names, and appends the values that are missing. " +
			"A CNAME at a challenge's name is followed, unless a wildcard makes it: that one is gone once the record exists. " +
			"If none of the zone's servers can be reached though they have to show the records, nothing is written. When the run has ended, or at `ctx:undo`, the values are removed again.",
		Returns: "the records, as the provider knows them",
		Example: `ctx:step("creating_dns_challenge", { retry = 5 }, function() return zone:present(order.challenges) end)`,
		Impl: bind.Effectful(bind.Effect[Zone, challengesArgs, *Plan, []Record]{
			Look: func(c *bind.Call, z *Zone, a *challengesArgs) (*Plan, []Record, bool, error) {
				if err := a.granted(c); err != nil {
					return nil, nil, false, err
				}
				plan, records, err := b.client(c).LookPresent(c.Context, *z, a.Challenges)
				return plan, records, records != nil, err
			},
			Do: func(c *bind.Call, z *Zone, _ *challengesArgs, plan *Plan) ([]Record, error) {
				return b.client(c).Present(c.Context, *z, plan)
			},
			Probe: func(c *bind.Call, z *Zone, a *challengesArgs, _ *Plan) ([]Record, bool, error) {
				return b.client(c).ProbePresent(c.Context, *z, a.Challenges)
			},
			Undo: func(c *bind.Call, z *Zone, a *challengesArgs, records *[]Record) error {
				return b.undo(c, z, a, records)
			},
			UndoKeys:   func(_ *Zone, a *challengesArgs) []string { return a.holds() },
			Repeatable: true,
		}),
	}
}

// undo removes the records, but for those that another unfinished run still needs.
func (b *binding) undo(c *bind.Call, z *Zone, a *challengesArgs, records *[]Record) error {
	held := map[string]string{}
	if c.HeldElsewhere != nil {
		var err error
		if held, err = c.HeldElsewhere(a.holds()); err != nil {
			return err
		}
	}
	for key, run := range held {
		c.Log.InfoContext(c.Context, "a TXT record stays: another run needs it", "record", key, "other_run", run)
	}
	var known []Record
	if records != nil {
		known = *records
	}
	return b.client(c).Remove(c.Context, *z, a.Challenges, known, func(key string) bool { _, yes := held[key]; return yes })
}

type propagatedArgs struct {
	Challenges []Challenge       `lua:"challenges" doc:"an order's challenges"`
	Options    propagatedOptions `lua:"options,optional" doc:"which servers to ask"`
}

type propagatedOptions struct {
	Mode          string        `lua:"mode,optional" enum:"authoritative resolvers doh wait" doc:"as in the zone's propagation, which it overrides"`
	Authoritative bool          `lua:"authoritative,optional" default:"true" doc:"false is the same as mode = \"resolvers\""`
	Resolvers     []string      `lua:"resolvers,optional" doc:"resolvers that have to show the values, see dns.zone"`
	URLs          []string      `lua:"urls,optional" doc:"endpoints for mode doh"`
	Wait          time.Duration `lua:"wait,optional" doc:"how long to wait, or before the first question"`
}

func (o propagatedOptions) propagation() Propagation {
	if o.Mode == "" && !o.Authoritative {
		o.Mode = modeResolvers
	}
	return Propagation{Mode: o.Mode, Resolvers: o.Resolvers, URLs: o.URLs, Wait: o.Wait}
}

func (b *binding) propagated() *bind.Func {
	return &bind.Func{
		Name: "propagated",
		Doc: "Reports whether every value is published, in the way that the zone's `propagation` says: by default all authoritative servers of the challenges' zones have to show it, " +
			"asked over UDP and, if need be, TCP, following CNAMEs. If none of a zone's servers can be reached, because port 53 is blocked, it is an error that names the other modes. " +
			"Each call asks a server for one value that it does not show, at most, and not again for what it has shown. Made for `ctx:poll`, twice a second.",
		Returns: "true, or false and who does not show what",
		Example: `ctx:poll("waiting_dns_propagation", { within = "10m", every = "500ms" }, function() return zone:propagated(order.challenges) end)`,
		Impl: bind.Read(func(c *bind.Call, z *Zone, a *propagatedArgs) (bind.Verdict, error) {
			if err := granted(c, namesOf(a.Challenges)...); err != nil {
				return bind.Verdict{}, err
			}
			client := b.client(c)
			client.askedSince(a.Challenges, c.PollBegan)
			ok, reason, err := client.Propagated(c.Context, *z, a.Challenges, a.Options.propagation())
			return bind.Verdict{OK: ok, Reason: reason}, err
		}),
	}
}

func (b *binding) remove() *bind.Func {
	return &bind.Func{
		Name: "remove",
		Doc: "Removes the values of challenges, exactly these, and nothing else at their names. A value that is already gone is not an error. " +
			"What `present` wrote is removed without it, when the run has ended.",
		Example: `ctx:step("removing_records", function() zone:remove(order.challenges) end)`,
		Impl: bind.Effectful(bind.Effect[Zone, challengesArgs, any, any]{
			Look: func(c *bind.Call, _ *Zone, a *challengesArgs) (any, any, bool, error) {
				return nil, nil, false, a.granted(c)
			},
			Do: func(c *bind.Call, z *Zone, a *challengesArgs, _ any) (any, error) {
				return nil, b.client(c).Remove(c.Context, *z, a.Challenges, nil, nil)
			},
			Repeatable: true,
		}),
	}
}

type recordsArgs struct {
	Name string `lua:"name,optional" doc:"the whole name; all names of the zone when left out (the zone then has to say its own name)"`
	Type string `lua:"type,optional" doc:"such as TXT; all types when left out"`
}

func (b *binding) records() *bind.Func {
	return &bind.Func{
		Name:    "records",
		Doc:     "Lists a zone's records as the provider knows them. With `rfc2136`, a name and a type are asked for with a signed question; everything else takes a zone transfer.",
		Returns: "the records",
		Example: `local txt = zone:records("_acme-challenge.cucm01-pub.automate.builders", "TXT")`,
		Impl: bind.Read(func(c *bind.Call, z *Zone, a *recordsArgs) ([]Record, error) {
			if err := granted(c, a.Name); a.Name != "" && err != nil {
				return nil, err
			}
			return b.client(c).Records(c.Context, *z, a.Name, a.Type)
		}),
	}
}
