package systest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// What can be seen without a container engine: both files are well formed, fit each
// other, and start nothing as root. TestImage builds and runs them.
func TestContainerFilesFitEachOther(t *testing.T) {
	folder := filepath.Join(examples, "container")
	last := map[string]string{} // instructions of the last stage, lines joined
	text := strings.ReplaceAll(read(t, filepath.Join(folder, "Containerfile")), "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		instruction, rest, _ := strings.Cut(line, " ")
		switch instruction {
		case "FROM":
			clear(last)
		case "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD":
		default:
			t.Errorf("not an instruction: %s", line)
		}
		last[instruction] = rest
	}
	const state = "/var/lib/moonseal"
	for instruction, want := range map[string]string{
		"USER": "65532:65532", "VOLUME": state, "ENTRYPOINT": `["/usr/local/bin/moonseal"]`, "CMD": `["serve"]`,
	} {
		if last[instruction] != want {
			t.Errorf("%s %q, want %q", instruction, last[instruction], want)
		}
	}
	if !strings.Contains(last["ENV"], "STATE_DIRECTORY="+state+" ") || !strings.HasSuffix(last["HEALTHCHECK"], `CMD ["/usr/local/bin/moonseal", "status"]`) {
		t.Errorf("ENV %s, HEALTHCHECK %s", last["ENV"], last["HEALTHCHECK"])
	}

	var compose struct {
		Services map[string]struct {
			Build   struct{ Context, Dockerfile string }
			Volumes []string
			Secrets []string
		}
		Secrets map[string]struct{ File string }
		Volumes map[string]any
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(folder, "compose.yaml"))), &compose); err != nil {
		t.Fatal(err)
	}
	service := compose.Services["moonseal"]
	if _, err := os.Stat(filepath.Join(folder, service.Build.Context, service.Build.Dockerfile)); err != nil {
		t.Errorf("build: %v", err)
	}
	volume, at, _ := strings.Cut(service.Volumes[0], ":")
	if _, ok := compose.Volumes[volume]; !ok || at != state {
		t.Errorf("the state is not on a volume: %v", service.Volumes)
	}
	for _, name := range service.Secrets {
		if compose.Secrets[name].File == "" {
			t.Errorf("the secret %s has no source", name)
		}
	}
}
