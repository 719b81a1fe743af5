package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"moonseal/runtime/problem"
	"moonseal/runtime/safefile"
	"moonseal/runtime/sandbox"
)

// Limits of a folder of scripts.
const (
	MaxFiles = 20000
	MaxTotal = 32 << 20 // bytes
	maxDepth = 6        // folders inside one another
)

// Tree is the text of the scripts in a folder, as it was when it was read.
type Tree struct {
	Dir      string            // with its links resolved
	Files    map[string]string // by path inside of the folder, with slashes
	Problems []*problem.Error  // files that were left out, and why
}

// hashFiles writes the files named by keys, unambiguously.
func hashFiles(w io.Writer, files map[string]string, keys []string) {
	for _, key := range keys {
		fmt.Fprintf(w, "%d:%s%d:%s", len(key), key, len(files[key]), files[key])
	}
}

// Read reads the scripts in the folder dir. It is an error when the folder as a
// whole cannot be used, be it that others can write into it; a file that cannot
// is one of the tree's problems. A link that leads out of the folder is followed if it
// and all that it leads through belong to root or this user and others can write none
// of it.
func Read(dir string) (*Tree, error) { return ReadWith(dir, Reading{}) }

// Reading lets a caller take part that reads the same folder repeatedly. Each
// of its functions may be nil.
type Reading struct {
	// Hooks is a folder that replaces hooks/, which is not read then; "" for none.
	Hooks string
	// Folder is called before the folder at path is listed.
	Folder func(path string)
	// Known returns the text of a file that is as it was when it was last read; the
	// file is not opened then.
	Known func(name string, info fs.FileInfo) (text string, ok bool)
	// Read is called with each file that was opened, and with its info as it was
	// after it was read.
	Read func(name string, info fs.FileInfo, text string)
}

// rereadings is how often a folder whose links move is read again.
const rereadings = 5

// ReadWith reads as [Read] does. Links that move while the folder is read, as
// those of a Kubernetes volume do, make it read the folder again: the tree is
// from before or from after, never of both.
func ReadWith(dir string, with Reading) (*Tree, error) {
	for range rereadings {
		r, err := read(dir, with)
		if err != nil {
			return nil, err
		}
		moved := false
		if with.Hooks != "" {
			h, err := read(with.Hooks, with.inHooks())
			if err != nil {
				return nil, err
			}
			moved = h.moved(with.Hooks)
			r.tree.add(hooksFolder, h.tree)
		}
		if !moved && !r.moved(dir) {
			return r.tree, nil
		}
	}
	return nil, &problem.Error{Kind: problem.Conflict, Target: dir, Message: "its links keep changing while it is read"}
}

// inHooks is the reading of the folder that replaces hooks/.
func (with Reading) inHooks() Reading {
	in := Reading{Folder: with.Folder}
	if with.Known != nil {
		in.Known = func(name string, info fs.FileInfo) (string, bool) {
			return with.Known(path.Join(hooksFolder, name), info)
		}
	}
	if with.Read != nil {
		in.Read = func(name string, info fs.FileInfo, text string) { with.Read(path.Join(hooksFolder, name), info, text) }
	}
	return in
}

// add adds another tree, as a folder of this one.
func (t *Tree) add(folder string, other *Tree) {
	for name, text := range other.Files {
		t.Files[path.Join(folder, name)] = text
	}
	for _, e := range other.Problems {
		e.Place.File = path.Join(folder, e.Place.File)
		t.Problems = append(t.Problems, e)
	}
}

func read(dir string, with Reading) (*reader, error) {
	target, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, unreadable(dir, err)
	}
	root, err := os.OpenRoot(target)
	if err != nil {
		return nil, unreadable(dir, err)
	}
	r := &reader{
		root: root, with: with, links: map[string]string{}, outside: map[string]outside{},
		tree: &Tree{Dir: target, Files: map[string]string{}},
	}
	defer r.close()
	return r, r.folder(".", 0)
}

func (r *reader) close() {
	_ = r.root.Close()
	for _, o := range r.outside {
		_ = o.root.Close()
	}
}

func unreadable(name string, err error) *problem.Error {
	if refused, ok := errors.AsType[*problem.Error](err); ok {
		return refused
	}
	if errors.Is(err, syscall.ELOOP) {
		return &problem.Error{Kind: problem.Usage, Target: name, Message: "symlink loop", Cause: err}
	}
	e := &problem.Error{Kind: problem.Usage, Target: name, Message: "cannot be read: " + problem.Reason(err), Cause: err}
	if errors.Is(err, fs.ErrPermission) {
		e.Hint = "let the user that runs moonseal read it: chmod, or chown"
	}
	return e
}

type reader struct {
	root    *os.Root
	with    Reading
	tree    *Tree
	links   map[string]string  // where the links in it pointed
	outside map[string]outside // what links lead to that is not below root, by their names
	above   []fs.FileInfo      // the folders around the one being read
	files   int
	total   int
}

// moved reports whether the folder, or a link in it, points elsewhere by now.
func (r *reader) moved(dir string) bool {
	if target, err := filepath.EvalSymlinks(dir); err != nil || target != r.tree.Dir {
		return true
	}
	for name, was := range r.links {
		if is, err := os.Readlink(r.full(name)); err != nil || is != was {
			return true
		}
	}
	return false
}

func (r *reader) full(name string) string { return filepath.Join(r.tree.Dir, filepath.FromSlash(name)) }

// folder reads one folder; only limits of the whole tree, and the top folder
// itself, are errors.
func (r *reader) folder(name string, depth int) error {
	entries, failed := r.list(name, depth)
	defer func(n int) { r.above = r.above[:n] }(depth)
	if failed != nil {
		if depth == 0 {
			return failed
		}
		r.leaveOut(name, failed)
		return nil
	}
	for _, entry := range entries {
		child := path.Join(name, entry.Name())
		link := entry.Type()&fs.ModeSymlink != 0
		if link {
			// One that is gone by now counts as moved. Those that begin with a dot are
			// what the others lead through.
			r.links[child], _ = os.Readlink(r.full(child))
		}
		if strings.HasPrefix(entry.Name(), ".") || child == hooksFolder && r.with.Hooks != "" {
			continue
		}
		info, err := entry.Info() // which a folder of a root has at hand
		if link {
			info, err = r.stat(child)
		}
		if err := r.entry(child, info, err, link, depth); err != nil {
			return err
		}
	}
	return nil
}

// entry reads a file or folder of which stat returned info, or failed.
func (r *reader) entry(name string, info fs.FileInfo, failed error, link bool, depth int) error {
	script := isScript(name)
	switch {
	case failed == nil && info.IsDir():
		return r.folder(name, depth+1)
	case failed == nil && script:
		return r.file(name, info, link)
	case failed != nil && (script || !errors.Is(failed, fs.ErrNotExist)):
		r.leaveOut(name, unreadable(r.full(name), failed))
	}
	return nil
}

func isScript(name string) bool {
	return strings.HasSuffix(name, ".lua") && !strings.HasSuffix(name, "_test.lua")
}

func (r *reader) list(name string, depth int) ([]fs.DirEntry, *problem.Error) {
	if depth > maxDepth {
		return nil, &problem.Error{
			Kind: problem.Usage, Target: r.full(name),
			Message: fmt.Sprintf("folders nested deeper than %d", maxDepth),
		}
	}
	if r.with.Folder != nil {
		r.with.Folder(r.full(name))
	}
	f, err := r.open(name)
	if err != nil {
		return nil, unreadable(r.full(name), err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(r.full(name), err)
	}
	if !info.IsDir() {
		return nil, &problem.Error{Kind: problem.Usage, Target: r.full(name), Message: "is not a folder"}
	}
	if e := r.writable(name, info); e != nil {
		return nil, e
	}
	if slices.ContainsFunc(r.above, func(above fs.FileInfo) bool { return os.SameFile(above, info) }) {
		return nil, &problem.Error{
			Kind: problem.Usage, Target: r.full(name), Message: "symlink loop: it leads to a folder above it",
		}
	}
	r.above = append(r.above, info)
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, unreadable(r.full(name), err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// writable refuses what others than its owner can write: who writes a script
// decides what is done with the appliances' passwords.
func (r *reader) writable(name string, info fs.FileInfo) *problem.Error {
	if !safefile.OthersWrite(info) || safefile.ReadOnly(r.full(name)) {
		return nil
	}
	return &problem.Error{
		Kind: problem.Usage, Target: r.full(name), Message: fmt.Sprintf("others can write it (mode %04o)", info.Mode().Perm()),
		Hint: "chmod go-w " + r.full(name),
	}
}

func (r *reader) file(name string, info fs.FileInfo, link bool) error {
	r.files++
	if r.files > MaxFiles {
		return &problem.Error{Kind: problem.Usage, Target: r.tree.Dir, Message: fmt.Sprintf("more than %d scripts", MaxFiles)}
	}
	if !info.Mode().IsRegular() {
		r.leaveOut(name, &problem.Error{Kind: problem.Usage, Target: r.full(name), Message: "is not a regular file"})
		return nil
	}
	text, failed := r.text(name, info)
	if failed != nil {
		if link || !errors.Is(failed, fs.ErrNotExist) { // else it went after the folder was listed
			r.leaveOut(name, failed)
		}
		return nil
	}
	r.total += len(text)
	if r.total > MaxTotal {
		return &problem.Error{
			Kind: problem.Usage, Target: r.tree.Dir,
			Message: fmt.Sprintf("scripts of more than %d MiB in all", MaxTotal>>20),
		}
	}
	r.tree.Files[name] = text
	return nil
}

func (r *reader) text(name string, info fs.FileInfo) (string, *problem.Error) {
	if r.with.Known == nil {
		return r.read(name)
	}
	if text, ok := r.with.Known(name, info); ok {
		return text, r.writable(name, info)
	}
	return r.read(name)
}

func (r *reader) read(name string) (string, *problem.Error) {
	f, err := r.open(name)
	if err != nil {
		return "", unreadable(r.full(name), err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", unreadable(r.full(name), err)
	}
	if !info.Mode().IsRegular() {
		return "", &problem.Error{Kind: problem.Usage, Target: r.full(name), Message: "is not a regular file"}
	}
	if e := r.writable(name, info); e != nil {
		return "", e
	}
	text, err := io.ReadAll(io.LimitReader(f, sandbox.MaxSource+1))
	if err != nil {
		return "", unreadable(r.full(name), err)
	}
	if len(text) > sandbox.MaxSource {
		return "", &problem.Error{
			Kind: problem.Usage, Target: r.full(name), Message: fmt.Sprintf("longer than %d KiB", sandbox.MaxSource>>10),
			Hint: "move data or helpers into files under lib/",
		}
	}
	if r.with.Read == nil {
		return string(text), nil
	}
	if info, err = f.Stat(); err != nil {
		return "", unreadable(r.full(name), err)
	}
	r.with.Read(name, info, string(text))
	return string(text), nil
}

// leaveOut makes a file that is not read one of the tree's problems.
func (r *reader) leaveOut(name string, e *problem.Error) {
	e.Place = &problem.Place{File: name}
	r.tree.Problems = append(r.tree.Problems, e)
}
