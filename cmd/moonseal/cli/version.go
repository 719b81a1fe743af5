package cli

import (
	"debug/elf"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"moonseal/runtime/plain"
	"moonseal/runtime/worker"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			_, err := plain.Fprintf(a.stdout, "moonseal %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

const unreleased = "(devel)"

// version is the module's, as the build has it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return unreleased
}

// thisBuild distinguishes this program from other builds of it: by its version, and, if that
// is not of a commit, also by the linker's hash of its contents.
func thisBuild() string {
	v := version()
	if v != unreleased && !strings.HasSuffix(v, "+dirty") {
		return v
	}
	if id := buildID(worker.Self); id != "" {
		v += " " + id
	}
	return v
}

// idLength is how many characters of a build id are enough to distinguish builds.
const idLength = 10

// buildID returns a short form of a program's build id, "" if it has none.
func buildID(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	s := f.Section(".note.go.buildid")
	if s == nil {
		return ""
	}
	note, err := s.Data()
	if err != nil {
		return ""
	}
	// A header of three words, the name "Go", then the id: action/…/…/content.
	_, content, ok := strings.Cut(strings.TrimRight(string(note), "\x00"), "/")
	if !ok {
		return ""
	}
	content = content[strings.LastIndexByte(content, '/')+1:]
	return content[:min(idLength, len(content))]
}
