package main

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// zipLimit is what Lambda takes (Lambda quotas, 2026).
const zipLimit = 50 << 20

// checkZip looks into a function.zip, if there is one: what Lambda would refuse, or start and never see run, is told here.
func checkZip(c *Config) error {
	info, err := os.Stat(c.FunctionZip)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a placeholder takes its place
	}
	if err != nil {
		return fmt.Errorf("functionZip: %w", err)
	}
	if info.Size() > zipLimit {
		return fmt.Errorf("functionZip: %s has %d MiB; Lambda takes %d", c.FunctionZip, info.Size()>>20, zipLimit>>20)
	}
	r, err := zip.OpenReader(c.FunctionZip)
	if err != nil {
		return fmt.Errorf("functionZip: read %s: %w; build it: make lambda", c.FunctionZip, err)
	}
	defer r.Close()
	f, err := r.Open("bootstrap")
	if err != nil {
		return fmt.Errorf("functionZip: %s holds no bootstrap at its root; build it: make lambda", c.FunctionZip)
	}
	defer f.Close()
	info, err = f.Stat()
	if err != nil {
		return fmt.Errorf("functionZip: %w", err)
	}
	if info.Mode()&0o111 == 0 {
		return fmt.Errorf("functionZip: bootstrap in %s is not executable; build it: make lambda", c.FunctionZip)
	}
	header := make([]byte, 20)
	if _, err := io.ReadFull(f, header); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("functionZip: read bootstrap in %s: %w; build it: make lambda", c.FunctionZip, err)
	}
	want := pick(c.Architecture == "arm64", elf.EM_AARCH64, elf.EM_X86_64)
	if string(header[:4]) != elf.ELFMAG || elf.Machine(binary.LittleEndian.Uint16(header[18:])) != want {
		return fmt.Errorf("functionZip: bootstrap in %s is no Linux binary for %s; build it for that, or set architecture", c.FunctionZip, c.Architecture)
	}
	return nil
}

// writePlaceholder writes a zip that is the same each time, so that templates are.
func writePlaceholder() (string, error) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	h := &zip.FileHeader{Name: "bootstrap"}
	h.SetMode(0o755)
	f, err := w.CreateHeader(h)
	if err == nil {
		_, err = f.Write([]byte("#!/bin/sh\necho 'placeholder: run make lambda and deploy again' >&2; exit 1\n"))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return "", fmt.Errorf("write placeholder: %w", err)
	}
	file, err := os.CreateTemp("", "placeholder-*.zip")
	if err != nil {
		return "", err
	}
	_, err = file.Write(buf.Bytes())
	return file.Name(), errors.Join(err, file.Close())
}
