package cucm

import (
	"slices"
	"strings"
	"testing"

	"moonseal/runtime/problem"
)

const serviceList = `Requesting service status, please wait...
System SSH [STARTED]
Cluster Manager [STARTED]
Service Manager is running
Getting list of all services
>> Return code = 0
A Cisco DB[STARTED]
Cisco AXL Tomcat[STARTED]
Cisco CallManager[STARTED]
Cisco CTIManager[STOPPED]  Service Not Activated
Cisco DRF Local[STARTED]
Cisco DRF Master[STOPPED]
Cisco TFTP[STARTED]
Cisco Tomcat[STARTED]
Cisco Trust Verification Service[STARTING]
Primary Node =true
`

func TestParseServices(t *testing.T) {
	list := parseServices(strings.ReplaceAll(serviceList, "\n", "\r\n"))
	if len(list) != 11 || list[0] != (Service{"System SSH", "STARTED", ""}) || list[5] != (Service{"Cisco CTIManager", "STOPPED", "Service Not Activated"}) {
		t.Errorf("got %d: %+v", len(list), list)
	}
	for _, line := range []string{"", "no service", "[STARTED]", "x[]", "Press <enter> for 1 line", "a[b", strings.Repeat("x", 200) + "[STARTED]"} {
		if got := parseServices(line); len(got) != 0 {
			t.Errorf("%q returns %+v", line, got)
		}
	}
	if got := parseServices("  Cisco Tomcat [ started ] \n"); len(got) != 1 || got[0] != (Service{"Cisco Tomcat", "STARTED", ""}) {
		t.Errorf("got %+v", got)
	}
	if n := len(parseServices(strings.Repeat("x[STARTED]\n", 5000))); n != mostServices {
		t.Errorf("%d services", n)
	}
}

func TestPlan(t *testing.T) {
	list := parseServices(serviceList)
	for _, tc := range []struct {
		certificate string
		asked       string
		want        string
	}{
		{"tomcat", "", "Cisco Tomcat, Cisco AXL Tomcat, Cisco DRF Local, Cisco TFTP"}, // as the node spells them; UDS is not there, DRF Master is stopped
		{"tomcat-ECDSA", "", "Cisco Tomcat, Cisco AXL Tomcat, Cisco DRF Local, Cisco TFTP"},
		{"ipsec", "", "Cisco DRF Local"},
		{"CallManager", "", "Cisco CallManager, Cisco TFTP"},
		{"CAPF", "", "Cisco Certificate Authority Proxy Function, Cisco TFTP"},
		{"TVS", "", "Cisco Trust Verification Service, Cisco TFTP"}, // the primary one in any state
		{"ITLRecovery", "", "Cisco Trust Verification Service, Cisco TFTP"},
		{"cup", "", "Cisco SIP Proxy, Cisco Presence Engine"},
		{"cup-xmpp-s2s-ECDSA", "", "Cisco XCP Router"},
		{"tomcat", "cisco tomcat, Own Service", "Cisco Tomcat, Own Service"},
		{"anything", "Own Service", "Own Service"},
	} {
		var asked []string
		if tc.asked != "" {
			asked = strings.Split(tc.asked, ", ")
		}
		got, err := plan(tc.certificate, asked, list)
		if err != nil || strings.Join(got, ", ") != tc.want {
			t.Errorf("%s: %v, %v; want %s", tc.certificate, got, err, tc.want)
		}
	}
	if _, err := plan("anything", nil, list); kind(err) != problem.Usage {
		t.Errorf("unknown type: %v", err)
	}
}

func TestJudge(t *testing.T) {
	const head = "Do not press Ctrl+C while the service is restarting. If the service has not restarted properly, execute the same command again.\nService Manager is running\n"
	for _, tc := range []struct {
		output  string
		want    outcome
		started bool
	}{
		{head + "Cisco Tomcat[STARTING]\nCisco Tomcat[STARTED]", outcomeStarted, true},
		{head + "Cisco Tomcat[STOPPING]\nCisco Tomcat[STOPPED]\nCisco Tomcat[STARTING]\nCisco Tomcat[STARTED]", outcomeStarted, true},
		{head + "Cisco Tomcat[STARTING]\nCisco Tomcat[STOPPED]", outcomeStopped, true},
		{head + "Cisco Tomcat[STARTING]", outcomeUnproven, true},
		{head, outcomeUnproven, true},
		{"", outcomeUnproven, false},
		{"Cisco Tomcat[STARTED]\nCisco UDS Tomcat[STOPPED]", outcomeStarted, true},
		{"Service Manager is running\nService [Cisco Tomcat] is invalid", outcomeRefused, false},
		{"Executed command unsuccessfully\nMissing the name", outcomeRefused, false},
		{"No valid command entered", outcomeRefused, false},
		{"This command is not allowed during an upgrade", outcomeRefused, false},
		{head + "Cisco Tomcat[STARTING]\nCisco Tomcat[STARTED]\nExecuted command unsuccessfully", outcomeDoubtful, true},
	} {
		if got := judge("Cisco Tomcat", tc.output); got != tc.want {
			t.Errorf("%q: %v, want %v", tc.output, got, tc.want)
		}
		if got := slices.ContainsFunc(strings.Split(tc.output, "\n"), started); got != tc.started {
			t.Errorf("%q: started %v", tc.output, got)
		}
	}
}

func FuzzServices(f *testing.F) {
	f.Add(serviceList, "Cisco Tomcat")
	f.Add("x[STARTED]\x00[[]]\n[STOPPED] y", "x")
	f.Fuzz(func(t *testing.T, output, name string) {
		list := parseServices(output)
		for _, s := range list {
			if s.Name == "" || s.State == "" || len(s.Name) > 500 || len(s.Note) > 1000 || strings.ContainsAny(s.Name, "[]\n") {
				t.Errorf("%q returns %+v", output, s)
			}
		}
		if judge(name, output) == outcomeStarted && find(list, name) == nil {
			t.Errorf("%q started without being there", name)
		}
	})
}
