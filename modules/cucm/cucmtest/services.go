package cucmtest

import "strings"

// certificateServices are the names that the REST API knows on a node.
func certificateServices(role Role) []string {
	if role == Presence {
		return []string{tomcat, "tomcat-ECDSA", "ipsec", "cup", "cup-ECDSA", "cup-xmpp", "cup-xmpp-ECDSA", "cup-xmpp-s2s", "cup-xmpp-s2s-ECDSA"}
	}
	return []string{tomcat, "tomcat-ECDSA", "ipsec", "CallManager", "CallManager-ECDSA", "CAPF", "TVS", "ITLRecovery"}
}

// multiServer says whether a service can have one certificate for the whole cluster.
func multiServer(service string) bool {
	switch strings.TrimSuffix(service, "-ECDSA") {
	case tomcat, "CallManager", "cup-xmpp", "cup-xmpp-s2s":
		return true
	}
	return false
}

// trustOf names the trust store of a service: its ECDSA twin shares it.
func trustOf(service string) string { return strings.TrimSuffix(service, "-ECDSA") + "-trust" }

// status is the state of a service as "utils service list" prints it.
type status string

const (
	started  status = "STARTED"
	starting status = "STARTING"
	stopped  status = "STOPPED"
)

// service is a service of the platform's command line.
type service struct {
	name       string
	status     status
	note       string // why it is stopped
	usesTomcat bool   // reads tomcat's certificate when it starts
}

const ciscoTomcat = "Cisco Tomcat"

// platformServices are the services of a node. The names are Cisco's; the list
// is a part of the real one.
func platformServices(role Role) []*service {
	list := []*service{
		{name: "A Cisco DB"},
		{name: "A Cisco DB Replicator"},
		{name: "Cisco AMC Service"},
		{name: "Cisco AXL Tomcat", usesTomcat: true},
		{name: "Cisco Audit Event Service"},
		{name: "Cisco Certificate Expiry Monitor"},
		{name: "Cisco DRF Local", usesTomcat: true},
	}
	if role == Publisher {
		list = append(list, &service{name: "Cisco DRF Master", usesTomcat: true})
	}
	if role == Presence {
		list = append(list,
			&service{name: "Cisco Presence Engine"},
			&service{name: "Cisco SIP Proxy"},
			&service{name: "Cisco XCP Router"})
	} else {
		list = append(list,
			&service{name: "Cisco CTIManager"},
			&service{name: "Cisco CallManager", usesTomcat: true},
			&service{name: "Cisco Certificate Authority Proxy Function"},
			&service{name: "Cisco HAProxy"},
			&service{name: "Cisco Tftp", usesTomcat: true},
			&service{name: "Cisco Trust Verification Service"})
	}
	list = append(list,
		&service{name: ciscoTomcat, usesTomcat: true},
		&service{name: "Cisco UDS Tomcat", usesTomcat: true},
		&service{name: "Host Resources Agent"},
		&service{name: "System Application Agent"},
		&service{name: "Cisco WebDialer Web Service", status: stopped, note: "Service Not Activated"})
	for _, s := range list {
		if s.status == "" {
			s.status = started
		}
	}
	return list
}

// findService returns a service by its exact name; nil if there is none.
func (n *Node) findService(name string) *service {
	for _, s := range n.services {
		if s.name == name {
			return s
		}
	}
	return nil
}
