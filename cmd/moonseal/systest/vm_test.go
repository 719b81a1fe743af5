package systest

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// vmVariable names the folder that testdata/vm/image has filled.
const vmVariable = "MOONSEAL_VM"

// machine is a virtual machine: Debian's kernel, systemd as its first process,
// cgroups of version 2, a disk that outlasts a power cut, and an agent on its
// second serial port that does what it is told (testdata/vm/agent). Its 10.0.2.2
// is the loopback of this machine.
type machine struct {
	t     *testing.T
	image string // the folder with kernel, initrd and root
	dir   string // of its disk, and of what it says on its console
	qemu  *exec.Cmd
	conn  net.Conn
	said  *bufio.Reader
}

// conversation bounds one thing that a machine is told to do. Without KVM its
// processor is this program's, and ten times as slow.
const conversation = 3 * time.Minute

// newMachine returns a machine that is off.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, image: os.Getenv(vmVariable), dir: t.TempDir()}
	if m.image == "" {
		t.Skip(vmVariable + " names no machine to boot: make vmtest makes one")
	}
	if _, err := exec.LookPath(qemu); err != nil {
		t.Skip(qemu + " is not installed (Debian: apt-get install qemu-system-x86)")
	}
	for _, name := range []string{"kernel", "initrd", "root"} {
		if _, err := os.Stat(filepath.Join(m.image, name)); err != nil {
			t.Skipf("there is no machine to boot: %v", err)
		}
	}
	m.check(copySparse(filepath.Join(m.image, "root"), filepath.Join(m.dir, "disk")))
	t.Cleanup(m.powerCut)
	return m
}

// bring says what the machine is to have in /root/moonseal.
func (m *machine) bring(files map[string][]byte) {
	m.t.Helper()
	m.check(os.WriteFile(filepath.Join(m.dir, "files.tar"), archive(m.t, files), 0o600))
}

const qemu = "qemu-system-x86_64"

// accelerator is KVM where it can run any kernel. kvm_pvm, of a machine that is
// virtual itself, runs only those made for it.
func accelerator() []string {
	for _, module := range []string{"kvm_intel", "kvm_amd"} {
		_, err := os.Stat("/sys/module/" + module)
		if err == nil && unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) == nil {
			return []string{"-accel", "kvm", "-cpu", "host"}
		}
	}
	return []string{"-accel", "tcg", "-cpu", "max"}
}

// boot switches the machine on, once there is what it brings, and waits until it can be told what to do.
func (m *machine) boot() {
	m.t.Helper()
	socket := filepath.Join(m.dir, "agent.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	m.check(err)
	defer func() { _ = l.Close() }()
	args := append(accelerator(), "-m", "1024", "-smp", "2", "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(m.image, "kernel"), "-initrd", filepath.Join(m.image, "initrd"),
		"-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=0",
		// What the machine has written is safe once it is in this machine's memory.
		"-drive", "if=virtio,format=raw,cache=unsafe,file="+filepath.Join(m.dir, "disk"),
		"-drive", "if=virtio,format=raw,readonly=on,file="+filepath.Join(m.dir, "files.tar"),
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
		"-serial", "file:"+m.console(), "-serial", "unix:"+socket)
	m.qemu = exec.Command(qemu, args...)
	m.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var says bytes.Buffer
	m.qemu.Stderr = &says
	m.check(m.qemu.Start())
	m.check(l.SetDeadline(time.Now().Add(patience)))
	if m.conn, err = l.Accept(); err != nil {
		m.t.Fatalf("%v: %s", err, says.String())
	}
	m.said = bufio.NewReader(m.conn)
	if line := m.answer(); line != "ready" {
		m.t.Fatalf("it says %q", line)
	}
}

func (m *machine) console() string { return filepath.Join(m.dir, "console") }

// powerCut ends the machine as it is.
func (m *machine) powerCut() {
	if m.conn != nil {
		_ = m.qemu.Process.Kill()
		_ = m.qemu.Wait()
		_ = m.conn.Close()
		m.conn = nil
	}
}

func (m *machine) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// answer returns the next line that the agent says.
func (m *machine) answer() string {
	m.t.Helper()
	m.check(m.conn.SetReadDeadline(time.Now().Add(conversation)))
	line, err := m.said.ReadString('\n')
	if err != nil {
		text, _ := os.ReadFile(m.console())
		m.t.Fatalf("the machine says no more: %v; on its console:\n%s", err, text[max(0, len(text)-4096):])
	}
	return strings.TrimSuffix(line, "\n")
}

// try runs a shell script as root and returns what it printed, and its exit code.
func (m *machine) try(script string) (said string, code int) {
	m.t.Helper()
	_, err := io.WriteString(m.conn, base64.StdEncoding.EncodeToString([]byte(script))+"\n")
	m.check(err)
	text, status, ok := strings.Cut(m.answer(), " ")
	out, err := base64.StdEncoding.DecodeString(text)
	code, err2 := strconv.Atoi(status)
	if err = errors.Join(err, err2); !ok || err != nil {
		m.t.Fatalf("the agent answers %q: %v", text+" "+status, err)
	}
	return string(out), code
}

// do runs a shell script that must not fail, and returns what it printed.
func (m *machine) do(script string) string {
	m.t.Helper()
	said, code := m.try(script)
	if code != 0 {
		m.t.Fatalf("exit code %d of:\n%s\n%s", code, script, said)
	}
	return strings.TrimSuffix(said, "\n")
}

// says runs a script that must print all the words, with the exit code.
func (m *machine) says(code int, script string, words ...string) string {
	m.t.Helper()
	said, got := m.try(script)
	if got != code {
		m.t.Errorf("exit code %d, want %d, of:\n%s\n%s", got, code, script, said)
	}
	for _, word := range words {
		if !strings.Contains(said, word) {
			m.t.Errorf("there is no %q in what this says:\n%s\n%s", word, script, said)
		}
	}
	return said
}

// write makes a file in the machine, for root, that others may read.
func (m *machine) write(path, text string) {
	m.t.Helper()
	m.do("mkdir -p $(dirname " + path + ")\nbase64 --decode >" + path + " <<<" + base64.StdEncoding.EncodeToString([]byte(text)))
}

// archive returns a tar of the files; those below bin/ can be run.
func archive(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, data := range files {
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(name, "bin/") {
			mode = 0o755
		}
		err := w.WriteHeader(&tar.Header{Name: name, Mode: int64(mode), Size: int64(len(data)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// copySparse copies a file with its holes: most of a disk is one.
func copySparse(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, out.Close()) }()
	size, err := in.Seek(0, io.SeekEnd)
	if err == nil {
		err = out.Truncate(size)
	}
	for at := int64(0); err == nil; {
		var data, hole int64
		if data, err = in.Seek(at, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
			return nil // there is no more
		}
		if err == nil {
			hole, err = in.Seek(data, unix.SEEK_HOLE)
		}
		if err == nil {
			_, err = io.Copy(io.NewOffsetWriter(out, data), io.NewSectionReader(in, data, hole-data))
		}
		at = hole
	}
	return err
}
