// Command zip packs a bootstrap for Lambda: zip OUT BOOTSTRAP. The same bootstrap makes the same bytes, on machines without zip(1) too.
package main

import (
	"archive/zip"
	"compress/flate"
	"fmt"
	"io"
	"os"
	"time"
)

// maxBytes is far below what Lambda takes (50 MB): a worker that grew beyond it links what it should not.
const maxBytes = 8_000_000

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: zip OUT BOOTSTRAP")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "zip: %v\n", err)
		os.Exit(1)
	}
}

func pack(out, bootstrap string) error {
	program, err := os.ReadFile(bootstrap)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	z := zip.NewWriter(f)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	// Lambda wants it executable, and at the top. The time is the earliest that a zip knows.
	h := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	h.SetMode(0o755)
	w, err := z.CreateHeader(h)
	if err != nil {
		return err
	}
	if _, err := w.Write(program); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %.1f MB (bootstrap %.1f MB)\n", out, float64(size)/1e6, float64(len(program))/1e6)
	if size > maxBytes {
		return fmt.Errorf("%s has %d bytes, more than %d", out, size, maxBytes)
	}
	return f.Close()
}
