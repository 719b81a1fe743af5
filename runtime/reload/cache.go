package reload

import (
	"io/fs"
	"maps"
	"syscall"
	"time"

	"github.com/jonboulle/clockwork"
)

// cache holds the text of files with their stamps. It is the one copy of the folder:
// whatever is made of it shares its strings.
type cache struct {
	clock clockwork.Clock
	rest  time.Duration // a file is at rest when it was not changed for so long
	files map[string]*file
	round int
}

type file struct {
	name   string
	stamp  stamp
	text   string
	moving bool // it was changed just before it was read: it may be half written
	doubt  bool // it is read next time whatever its stamp
	round  int  // the last reading that met it
}

// stamp changes with a file's contents: unlike the modification time, the change time
// cannot be set by a program.
type stamp struct {
	device, inode    uint64
	size             int64
	mode             fs.FileMode
	modified, change int64
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size(), mode: info.Mode(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode, s.change = uint64(st.Dev), st.Ino, st.Ctim.Nano() //nolint:unconvert // some systems have fewer bits
	}
	return s
}

func newCache(clock clockwork.Clock, rest time.Duration) *cache {
	return &cache{clock: clock, rest: rest, files: map[string]*file{}}
}

// begin starts a reading of the folder.
func (c *cache) begin() { c.round++ }

// end forgets the files that were not seen since begin.
func (c *cache) end() {
	maps.DeleteFunc(c.files, func(_ string, f *file) bool { return f.round != c.round })
}

// distrust makes the next reading read every file.
func (c *cache) distrust() {
	for _, f := range c.files {
		f.doubt = true
	}
}

func (c *cache) known(name string, info fs.FileInfo) (string, bool) {
	f := c.files[name]
	if f == nil || f.moving || f.doubt || f.stamp != stampOf(info) {
		return "", false
	}
	f.round = c.round
	return f.text, true
}

func (c *cache) read(name string, info fs.FileInfo, text string) {
	f := c.files[name]
	if f == nil {
		f = &file{name: name}
		c.files[name] = f
	}
	if f.text != text {
		f.text = text
	}
	f.stamp, f.doubt, f.round = stampOf(info), false, c.round
	touched := f.stamp.change
	if touched == 0 {
		touched = f.stamp.modified
	}
	f.moving = c.clock.Now().Sub(time.Unix(0, touched)).Abs() < c.rest
}

// moving reports whether the file was changed just before it was read.
func (c *cache) moving(name string) bool {
	f := c.files[name]
	return f != nil && f.moving
}

// text returns the file's text and name as they are kept.
func (c *cache) text(name string) (kept, text string, ok bool) {
	f := c.files[name]
	if f == nil {
		return name, "", false
	}
	return f.name, f.text, true
}
