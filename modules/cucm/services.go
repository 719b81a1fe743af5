package cucm

import (
	"regexp"
	"slices"
	"strings"

	"moonseal/runtime/problem"
)

// Service is one line of "utils service list".
type Service struct {
	Name  string `lua:"name" doc:"such as Cisco Tomcat"`
	State string `lua:"state" doc:"STARTED, STOPPED, STARTING, …"`
	Note  string `lua:"note,optional" doc:"why it is stopped, such as Service Not Activated"`
}

// Bounds on what is read: a node has about a hundred services.
const (
	mostServices = 1000
	mostName     = 120 // bytes
	mostNote     = 200
)

// parseServices reads the output of "utils service list": lines such as
// "Cisco CTIManager[STOPPED]  Service Not Activated". Others are left out.
func parseServices(output string) []Service {
	out := []Service{}
	for line := range strings.Lines(output) {
		name, rest, open := strings.Cut(line, "[")
		state, note, closed := strings.Cut(rest, "]")
		name, state = strings.TrimSpace(name), strings.ToUpper(strings.TrimSpace(state))
		if !open || !closed || name == "" || len(name) > mostName || strings.Contains(name, "]") || !isState(state) {
			continue
		}
		if out = append(out, Service{Name: name, State: state, Note: bound(strings.TrimSpace(note), mostNote)}); len(out) == mostServices {
			break
		}
	}
	return out
}

// isState reports whether s is a word or two, as STARTED or NOT RUNNING.
func isState(s string) bool {
	return s != "" && len(s) <= 30 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ _") == ""
}

// needs are the services that read one type of certificate.
type needs struct {
	always  []string // restarted in any case
	started []string // restarted if they run
}

const tomcatService = "Cisco Tomcat"

// servicesFor returns the services that a certificate's type needs restarted
// (Cisco, "Certificate Regeneration Process for CUCM"). ok is false for a type
// that is not known.
func servicesFor(certificate string) (n needs, ok bool) {
	const (
		drfMaster, drfLocal = "Cisco DRF Master", "Cisco DRF Local"
		tftp, tvs, ctl      = "Cisco Tftp", "Cisco Trust Verification Service", "Cisco CTL Provider"
	)
	switch trustService(certificate) {
	case "tomcat":
		// TFTP continues serving the old certificate until it restarts.
		return needs{[]string{tomcatService}, []string{"Cisco UDS Tomcat", "Cisco AXL Tomcat", drfMaster, drfLocal, tftp}}, true
	case "ipsec":
		return needs{[]string{drfLocal}, []string{drfMaster}}, true
	case "CallManager":
		return needs{[]string{"Cisco CallManager"}, []string{"Cisco CTIManager", tvs, tftp, "Cisco HAProxy"}}, true
	case "CAPF":
		return needs{[]string{"Cisco Certificate Authority Proxy Function"}, []string{ctl, tvs, tftp}}, true
	case "TVS":
		return needs{[]string{tvs}, []string{tftp}}, true
	case "ITLRecovery":
		return needs{[]string{tvs}, []string{ctl, tftp}}, true
	case "cup":
		return needs{[]string{"Cisco SIP Proxy", "Cisco Presence Engine"}, nil}, true
	case "cup-xmpp", "cup-xmpp-s2s":
		return needs{[]string{"Cisco XCP Router"}, nil}, true
	}
	return needs{}, false
}

// plan returns the names of the services to restart, in order, spelt as the node spells
// them. asked, if there is any, is the caller's own list.
func plan(certificate string, asked []string, list []Service) ([]string, error) {
	n := needs{always: asked}
	if len(asked) == 0 {
		var ok bool
		if n, ok = servicesFor(certificate); !ok {
			return nil, &problem.Error{
				Kind: problem.Usage, Message: "it is not known which services a " + certificate + " certificate needs restarted",
				Hint: "name them: services = { … }", Work: problem.NotDone,
			}
		}
	}
	var out []string
	for _, name := range n.always {
		if s := find(list, name); s != nil {
			name = s.Name
		}
		out = append(out, name)
	}
	for _, name := range n.started {
		if s := find(list, name); s != nil && s.State == "STARTED" {
			out = append(out, s.Name)
		}
	}
	return out, nil
}

// harmless reports whether restarting a service twice interrupts nothing that
// the certificate is for.
func harmless(certificate, service string) bool {
	n, _ := servicesFor(certificate)
	return slices.ContainsFunc(n.started, func(s string) bool { return strings.EqualFold(s, service) })
}

// repeatable reports whether a service is restarted a second time rather than recorded
// each time: its clients do not notice, or try again.
func repeatable(certificate, service string) bool {
	light := []string{"Cisco UDS Tomcat", "Cisco AXL Tomcat", "Cisco DRF Master", "Cisco DRF Local", "Cisco Tftp"}
	return harmless(certificate, service) && slices.ContainsFunc(light, func(s string) bool { return strings.EqualFold(s, service) })
}

// find returns the service of a name. Releases differ in capitals.
func find(list []Service, name string) *Service {
	i := slices.IndexFunc(list, func(s Service) bool { return strings.EqualFold(s.Name, name) })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// The ends of a restart.
type outcome int

const (
	outcomeStarted  outcome = iota
	outcomeUnproven         // back at the prompt without [STARTED]: some nodes never print it
	outcomeStopped
	outcomeRefused
	outcomeDoubtful // states of the service, and words that it failed
)

var (
	unsuccessful   = regexp.MustCompile(`(?i)unsuccessful|not allowed|not permitted|during (an|the) upgrade|upgrade (is )?in progress`)
	refusedRestart = regexp.MustCompile(`(?i)is invalid|not valid|invalid service|unsuccessful|no valid command|privilege|error|not found|not activated`)
	stateEnd       = regexp.MustCompile(`(?i)\[\s*(STARTED|STOPPED|STARTING|STOPPING)\s*\]`)
)

// judge reads the output of a restart of one service. Words that refuse decide before its
// last state does.
func judge(service, output string) outcome {
	state := ""
	for _, s := range parseServices(output) {
		if strings.EqualFold(s.Name, service) {
			state = s.State
		}
	}
	switch {
	case unsuccessful.MatchString(output) && state != "":
		return outcomeDoubtful
	case unsuccessful.MatchString(output):
		return outcomeRefused
	case state == "STARTED":
		return outcomeStarted
	case state == "STOPPED":
		return outcomeStopped
	case state == "" && refusedRestart.MatchString(output):
		return outcomeRefused
	default:
		return outcomeUnproven
	}
}

// started reports whether a line of a restart's output shows that it has started.
func started(line string) bool {
	return strings.Contains(line, "Do not press Ctrl+C") || stateEnd.MatchString(line)
}
