// Package test holds what runs the real program: end to end, under faults, and the rules of the tree.
package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "gmaps-scraper"

// mayImport lists, for each package of ours, the packages of ours that it may import. A package that is not listed is an error:
// it was added without a thought about who may use what. Tests are free.
var mayImport = map[string][]string{
	".":                   {"api", "export", "gmaps", "gmaps/simulator", "gmaps/web", "job", "manager", "spawner", "store", "store/postgres", "store/sqlite", "wakeup", "cache", "worker"},
	"gmaps":               {},
	"gmaps/web":           {"gmaps"},
	"gmaps/simulator":     {"gmaps"},
	"job":                 {"gmaps"},
	"api":                 {"job", "gmaps"},
	"store":               {"job", "gmaps"},
	"store/sqlite":        {"store", "job", "gmaps"},
	"store/postgres":      {"store", "job", "gmaps"},
	"store/storetest":     {"store", "job", "gmaps"},
	"wakeup":              {},
	"cache":               {},
	"spawner":             {},
	"spawner/spawnertest": {"spawner"},
	"export":              {"gmaps"},
	"manager":             {"api", "job", "gmaps", "store", "wakeup", "spawner", "export", "manager/web"},
	"manager/web":         {"api", "job", "gmaps"},
	"worker":              {"api", "job", "gmaps"},
	"functions/worker":    {"api", "cache", "gmaps", "gmaps/web", "job", "worker"},
	"functions/zip":       {},
	"infra":               {},
	"test":                {"localstack/lambda"},
	"test/bench":          {"api", "export", "gmaps", "gmaps/simulator", "gmaps/web", "job", "manager", "spawner", "store", "store/postgres", "store/sqlite", "wakeup", "worker", "localstack/lambda"},
	"test/bench/river":    {}, // a module of its own
	"test/demo":           {"api", "job", "gmaps"},
	"test/services":       {},
	"localstack/lambda":   {},
	"localstack/emulator": {"localstack/lambda"},
	"localstack/stack":    {"localstack/lambda"},

	"spawner/spawnertest/worker": {"spawner/spawnertest"},
}

// stdlibOnly may import nothing from outside the standard library.
var stdlibOnly = []string{"gmaps", "gmaps/simulator", "localstack/lambda"}

// unreachable is what a function's binary must not hold: it would be slow to start, or hold what a worker must not be able to do.
var unreachable = []string{
	"github.com/chromedp/", "github.com/jackc/pgx", "github.com/docker/", "github.com/moby/", "github.com/aws/aws-cdk-go", "github.com/aws/jsii-runtime-go",
	"github.com/xuri/excelize", "github.com/rabbitmq/", "modernc.org/sqlite", module + "/store", module + "/manager", module + "/spawner", module + "/wakeup",
}

// TestFunctionLinksNoMoreThanAWorker follows the imports of the function through all packages of ours.
func TestFunctionLinksNoMoreThanAWorker(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for queue := []string{"functions/worker"}; len(queue) > 0; queue = queue[1:] {
		pkg := queue[0]
		if seen[pkg] {
			continue
		}
		seen[pkg] = true
		files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pkg), "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("package %s has no files: %v", pkg, err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range f.Imports {
				name, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				for _, no := range unreachable {
					if strings.HasPrefix(name, no) {
						t.Errorf("%s imports %s, and functions/worker would link it", path, name)
					}
				}
				if ours, ok := strings.CutPrefix(name, module+"/"); ok {
					queue = append(queue, ours)
				}
			}
		}
	}
	if !seen["gmaps/web"] || !seen["worker"] {
		t.Errorf("the walk saw %v only", seen)
	}
}

// cdk are modules that infra alone may import, its tests included: whoever else did would compile for minutes.
var cdk = []string{"github.com/aws/aws-cdk-go/", "github.com/aws/constructs-go/", "github.com/aws/jsii-runtime-go"}

// TestImportRules reads the files themselves: a test that asks the go command answers from its cache.
func TestImportRules(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin" || d.Name() == "cdk.out" || d.Name() == "out") && path != root {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		checkCDK(t, path, filepath.ToSlash(rel))
		if strings.HasSuffix(path, "_test.go") {
			return nil
		}
		checkFile(t, path, filepath.ToSlash(rel))
		seen[filepath.ToSlash(rel)] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) < 10 {
		t.Fatalf("only %d packages were found under %s", len(seen), root)
	}
}

func checkFile(t *testing.T, path, pkg string) {
	t.Helper()
	allowed, known := mayImport[pkg]
	if !known {
		t.Errorf("package %s has no import rule", pkg)
		return
	}
	for _, name := range imports(t, path) {
		ours, isOurs := strings.CutPrefix(name, module+"/")
		switch {
		case isOurs && !slices.Contains(allowed, ours):
			t.Errorf("%s: package %s may not import %s", path, pkg, ours)
		case !isOurs && slices.Contains(stdlibOnly, pkg) && strings.Contains(strings.Split(name, "/")[0], "."):
			t.Errorf("%s: package %s may import the standard library only, not %s", path, pkg, name)
		}
	}
}

func checkCDK(t *testing.T, path, pkg string) {
	t.Helper()
	if pkg == "infra" {
		return
	}
	for _, name := range imports(t, path) {
		if slices.ContainsFunc(cdk, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			t.Errorf("%s: package %s may not import %s: only infra may", path, pkg, name)
		}
	}
}

func imports(t *testing.T, path string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}
