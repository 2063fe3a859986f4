package lambda

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Limits of deployment packages (Developer Guide, Lambda quotas, 2026).
const (
	maxZipBytes      = 50 << 20
	maxUnpackedBytes = 250 << 20
	// maxControlBytes is a zip of maxZipBytes in base64, with what stands around it.
	maxControlBytes = maxZipBytes/3*4 + 1<<20
)

// bootstrap is the file of a package that an OS-only runtime starts.
const bootstrap = "bootstrap"

// taskRoot is where a function finds its package on AWS, and in messages.
const taskRoot = "/var/task"

// code is an unpacked deployment package.
type code struct {
	dir    string
	size   int64 // of the zip
	sha256 string
}

// unpack writes the zip into a folder of its own below root.
func unpack(root string, b []byte) (*code, *apiError) {
	badZip := invalidParameter("Could not unzip uploaded file. Please check your file, then try to upload again.")
	if len(b) > maxZipBytes {
		return nil, tooLarge("Request must be smaller than %d bytes for the CreateFunction operation", maxControlBytes)
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, badZip
	}
	var total uint64
	for _, f := range z.File {
		total += f.UncompressedSize64
	}
	if total > maxUnpackedBytes {
		return nil, invalidParameter("Unzipped size must be smaller than %d bytes", maxUnpackedBytes)
	}
	sum := sha256.Sum256(b)
	c := &code{dir: filepath.Join(root, "code-"+newID()), size: int64(len(b)), sha256: base64.StdEncoding.EncodeToString(sum[:])}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return nil, internal("unpack the code", err)
	}
	for _, f := range z.File {
		if err := unpackFile(c.dir, f); err != nil {
			_ = os.RemoveAll(c.dir)
			if errors.Is(err, errBadZip) {
				return nil, badZip
			}
			return nil, internal("unpack the code", err)
		}
	}
	return c, nil
}

var errBadZip = errors.New("bad zip")

func unpackFile(dir string, f *zip.File) error {
	if !filepath.IsLocal(f.Name) {
		return errBadZip
	}
	path := filepath.Join(dir, filepath.FromSlash(f.Name))
	if f.FileInfo().IsDir() {
		return os.MkdirAll(path, 0o755)
	}
	if !f.Mode().IsRegular() { // a link could lead out of the folder
		return fmt.Errorf("%s: only files and folders are unpacked: %w", f.Name, errBadZip)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	in, err := f.Open()
	if err != nil {
		return errBadZip
	}
	defer in.Close()
	// The zip's own permissions, readable by all as on AWS: a bootstrap without the x bit cannot be started there either.
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, f.Mode().Perm()|0o444)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, maxUnpackedBytes)) // a header may lie about the size
	if errors.Is(err, zip.ErrFormat) || errors.Is(err, zip.ErrChecksum) || errors.Is(err, zip.ErrAlgorithm) {
		err = errBadZip
	}
	return errors.Join(err, out.Close(), os.Chmod(path, f.Mode().Perm()|0o444)) // whatever the umask
}

// machines are the architectures of functions.
var machines = map[string]elf.Machine{"x86_64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkEntrypoint says what AWS says when it cannot start the bootstrap, "" if it can.
func (c *code) checkEntrypoint(architecture string) string {
	path := filepath.Join(c.dir, bootstrap)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "Couldn't find valid bootstrap(s): [" + taskRoot + "/bootstrap /opt/bootstrap]"
	}
	refused := func(err error) string { return "fork/exec " + taskRoot + "/bootstrap: " + err.Error() }
	if err != nil {
		return refused(err)
	}
	if info.Mode().Perm()&0o111 == 0 {
		return refused(syscall.EACCES)
	}
	// The kernel may be set up to run other machines' programs. AWS's is not.
	f, err := elf.Open(path)
	if err != nil {
		return "" // a script, or for the kernel to refuse
	}
	defer f.Close()
	if f.Machine != machines[architecture] {
		return refused(syscall.ENOEXEC)
	}
	return ""
}

func internal(action string, err error) *apiError {
	return &apiError{status: 500, code: "ServiceException", message: fmt.Sprintf("the emulator could not %s: %v", action, err)}
}
