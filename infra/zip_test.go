package main

import (
	"archive/zip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestZipThatLambdaWouldRefuseIsToldAtSynth uses this very test's binary as the function.
func TestZipThatLambdaWouldRefuseIsToldAtSynth(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: needs a Linux binary, and this test's is for", runtime.GOOS)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	self = self[:4096] // its header
	arch := runtime.GOARCH
	other := pick(arch == "arm64", "amd64", "arm64")
	for _, tt := range []struct {
		name, file, arch, want string
		mode                   os.FileMode
		body                   []byte
	}{
		{"right", "bootstrap", arch, "", 0o755, self},
		{"other machine", "bootstrap", other, "no Linux binary for", 0o755, self},
		{"script", "bootstrap", arch, "no Linux binary for", 0o755, []byte("#!/bin/sh\n")},
		{"not executable", "bootstrap", arch, "not executable", 0o644, self},
		{"in a folder", "bin/bootstrap", arch, "no bootstrap at its root", 0o755, self},
	} {
		name := filepath.Join(t.TempDir(), "function.zip")
		writeZip(t, name, tt.file, tt.mode, tt.body)
		err := checkZip(&Config{FunctionZip: name, Architecture: tt.arch})
		if got := errText(err); (tt.want == "") != (err == nil) || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if err := checkZip(&Config{FunctionZip: filepath.Join(t.TempDir(), "none.zip")}); err != nil {
		t.Errorf("no zip at all: %v", err)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func writeZip(t *testing.T, name, file string, mode os.FileMode, body []byte) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(f)
	h := &zip.FileHeader{Name: file, Method: zip.Deflate}
	h.SetMode(mode)
	entry, err := w.CreateHeader(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := entry.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// writeCA writes a certificate that stands for RDS's.
func writeCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
