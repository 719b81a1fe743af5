package bundle

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"moonseal/runtime/problem"
	"moonseal/runtime/safefile"
)

// outside is a folder out of the scripts folder, and of a link to a script its name there.
type outside struct {
	root *os.Root
	file string
}

// stat follows the link called name. One that the root does not follow leads out of
// the folder, or to itself.
func (r *reader) stat(name string) (fs.FileInfo, error) {
	root, rest := r.at(name)
	info, err := root.Stat(rest)
	if err == nil {
		return info, nil
	}
	if info, err = os.Stat(r.full(name)); err != nil {
		return nil, err
	}
	if !info.IsDir() && !isScript(name) {
		return info, nil // it is not read
	}
	return info, r.enter(name, info)
}

// enter opens what the link called name leads to, outside of the root: a folder, or
// the folder of a script.
func (r *reader) enter(name string, info fs.FileInfo) error {
	full := r.full(name)
	if err := (safefile.Policy{User: os.Geteuid()}).Check(full); err != nil {
		e := *problem.From(err)
		e.Kind, e.Target, e.Hint = problem.Usage, full, ""
		e.Message = "leads out of the scripts folder, and is not followed: " + strings.TrimPrefix(problem.From(err).Error(), full+": ")
		return &e
	}
	target, err := filepath.EvalSymlinks(full)
	if err != nil {
		return err
	}
	o, folder := outside{}, target
	if !info.IsDir() {
		folder, o.file = filepath.Split(target)
		if !isScript(o.file) { // else any file of this user could be shown in a syntax error
			return &problem.Error{
				Kind: problem.Usage, Target: full,
				Message: "leads out of the scripts folder, to a file that is not called .lua",
			}
		}
		if r.with.Folder != nil {
			r.with.Folder(filepath.Clean(folder))
		}
	}
	if o.root, err = os.OpenRoot(folder); err != nil {
		return err
	}
	r.outside[name] = o
	return nil
}

// at returns the root below which name is, and its path there.
func (r *reader) at(name string) (*os.Root, string) {
	for link := name; link != "."; link = path.Dir(link) {
		if o, ok := r.outside[link]; ok {
			return o.root, path.Join(".", o.file, strings.TrimPrefix(name, link))
		}
	}
	return r.root, name
}

// open opens a file or folder. A FIFO that took a file's place does not block it.
func (r *reader) open(name string) (*os.File, error) {
	root, rest := r.at(name)
	return root.OpenFile(rest, os.O_RDONLY|unix.O_NONBLOCK, 0)
}
