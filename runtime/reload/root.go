package reload

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// root tells one folder from another that takes its place. The number of one that is
// gone is soon given to the next, so the time of its birth tells too, where the file
// system keeps it.
type root struct {
	device, inode uint64
	born          unix.StatxTimestamp
}

func rootOf(dir string) (root, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return root{}, fmt.Errorf("statx %s: %w", dir, err)
	}
	r := root{device: unix.Mkdev(st.Dev_major, st.Dev_minor), inode: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		r.born = st.Btime
	}
	return r, nil
}
