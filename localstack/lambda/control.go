package lambda

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// read decodes a request's JSON body.
func (c *call) read(v any) *apiError {
	b, err := io.ReadAll(http.MaxBytesReader(nil, c.r.Body, maxControlBytes))
	if tooMany := (*http.MaxBytesError)(nil); errors.As(err, &tooMany) {
		return tooLarge("Request must be smaller than %d bytes for the %s operation", maxControlBytes, c.action[len("lambda:"):])
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return &apiError{status: http.StatusBadRequest, code: "InvalidRequestContentException", message: "Could not parse request body into json: " + err.Error()}
	}
	return nil
}

// reference reads which function the path names.
func (e *Emulator) reference(c *call) (reference, *apiError) {
	ref, err := parseReference(c.r.PathValue("name"), c.r.URL.Query().Get("Qualifier"))
	if err != nil {
		return ref, err
	}
	if ref.region != "" && ref.region != c.signature.region {
		return ref, notFound("Functions from '%s' are not reachable in this region ('%s')", ref.region, c.signature.region)
	}
	ref.region = c.signature.region
	return ref, nil
}

// find returns the function that the path names, with the qualifier. Emulator.mu is held.
func (e *Emulator) find(ref reference) (*function, *apiError) {
	f := e.functions[functionKey{ref.region, ref.name}]
	if f == nil || ref.account != "" && ref.account != e.config.Account {
		arn := arnOf(ref.region, cmp.Or(ref.account, e.config.Account), ref.name)
		if ref.qualifier != "" {
			arn += ":" + ref.qualifier
		}
		return nil, notFound("Function not found: %s", arn)
	}
	return f, nil
}

// findVersion is find, and the version that the qualifier names. Emulator.mu is held.
func (e *Emulator) findVersion(ref reference) (*function, *version, *apiError) {
	f, err := e.find(ref)
	if err != nil {
		return nil, nil, err
	}
	v, err := f.resolve(ref.qualifier)
	return f, v, err
}

// with calls h, under Emulator.mu, with the function and version that the path names, and answers with what h returns.
func (e *Emulator) with(c *call, status int, h func(f *function, v *version, ref reference) (any, *apiError)) *apiError {
	ref, err := e.reference(c)
	if err != nil {
		return err
	}
	answer, err := func() (any, *apiError) {
		e.mu.Lock()
		defer e.mu.Unlock()
		f, v, err := e.findVersion(ref)
		if err != nil {
			return nil, err
		}
		return h(f, v, ref)
	}()
	switch {
	case err != nil:
		return err
	case answer == nil:
		c.w.WriteHeader(status)
	default:
		writeJSON(c.w, status, answer)
	}
	return nil
}

type createRequest struct {
	settingsRequest
	FunctionName  string
	PackageType   string
	Architectures []string
	Publish       bool
	Code          codeRequest
}

type codeRequest struct {
	ZipFile                   []byte
	S3Bucket, S3Key, ImageUri string //nolint:revive,staticcheck // AWS's spelling
}

func (c codeRequest) check() *apiError {
	if c.S3Bucket != "" || c.ImageUri != "" {
		return invalidParameter("the local Lambda emulator has neither S3 nor container images; send the zip in Code.ZipFile")
	}
	if len(c.ZipFile) == 0 {
		return invalidParameter("Uploaded file must be a non-empty zip")
	}
	return nil
}

func (e *Emulator) createFunction(c *call) *apiError {
	var r createRequest
	if err := c.read(&r); err != nil {
		return err
	}
	ref, err := parseReference(r.FunctionName, "")
	if err != nil {
		return err
	}
	s := settings{memoryMiB: minMemoryMiB, timeoutSeconds: 3, ephemeralMiB: minEphemeralMiB, architecture: "x86_64"}
	if len(r.Architectures) > 0 {
		s.architecture = r.Architectures[0]
	}
	if len(r.Architectures) > 1 {
		return violated(r.Architectures, "architectures", "Member must have length less than or equal to 1")
	}
	if r.PackageType == "Image" {
		return invalidParameter("the local Lambda emulator has no container images; send a zip")
	}
	if s, err = s.apply(r.settingsRequest); err != nil {
		return err
	}
	if err := r.Code.check(); err != nil {
		return err
	}
	code, err := unpack(e.dir, r.Code.ZipFile)
	if err != nil {
		return err
	}
	key := functionKey{c.signature.region, ref.name}
	f := &function{key: key, arn: arnOf(key.region, e.config.Account, key.name), aliases: map[string]*alias{}, events: map[string]*eventConfig{}, idle: map[*version][]*environment{}}
	f.stats.FunctionArn = f.arn
	v := &version{function: f, number: latest, settings: s, code: code, created: true}
	e.mu.Lock()
	if e.functions[key] != nil {
		e.mu.Unlock()
		return conflict("Function already exist: %s", key.name)
	}
	e.functions[key] = f
	e.revise(f, v)
	answer := v.describe()
	if r.Publish {
		answer = f.publish("").describe()
	}
	e.mu.Unlock()
	writeJSON(c.w, http.StatusCreated, answer)
	return nil
}

// revise makes v the $LATEST of f. Emulator.mu is held.
func (e *Emulator) revise(f *function, v *version) {
	v.revision, v.modified = newID(), time.Now()
	v.readyAt = v.modified.Add(e.config.Activation)
	old := f.latest
	f.latest = v
	for _, env := range f.idle[old] {
		e.locked(env.discard)
	}
	delete(f.idle, old)
}

// publish freezes $LATEST under the next number. Emulator.mu is held.
func (f *function) publish(description string) *version {
	v := *f.latest
	v.number, v.revision = strconv.Itoa(len(f.published)+1), newID()
	if description != "" {
		v.description = description
	}
	f.published = append(f.published, &v)
	return &v
}

// steady says that f can be changed. Emulator.mu is held.
func (f *function) steady() *apiError {
	if f.latest.pending() {
		return conflict("The operation cannot be performed at this time. The function is currently in the following state: Pending")
	}
	if f.latest.updating() {
		return conflict("The operation cannot be performed at this time. An update is in progress for resource: %s", f.arn)
	}
	return nil
}

func (e *Emulator) getFunction(c *call) *apiError {
	return e.with(c, http.StatusOK, func(f *function, v *version, _ reference) (any, *apiError) {
		answer := map[string]any{"Configuration": v.describe(), "Code": map[string]string{"RepositoryType": "S3"}}
		if f.reserved != nil {
			answer["Concurrency"] = map[string]int{"ReservedConcurrentExecutions": *f.reserved}
		}
		return answer, nil
	})
}

func (e *Emulator) getConfiguration(c *call) *apiError {
	return e.with(c, http.StatusOK, func(_ *function, v *version, _ reference) (any, *apiError) { return v.describe(), nil })
}

// listFunctions answers with all functions of the region on one page.
func (e *Emulator) listFunctions(c *call) *apiError {
	e.mu.Lock()
	list := []configuration{}
	for key, f := range e.functions {
		if key.region == c.signature.region {
			list = append(list, f.latest.describe())
		}
	}
	e.mu.Unlock()
	slices.SortFunc(list, func(a, b configuration) int { return cmp.Compare(a.FunctionName, b.FunctionName) })
	writeJSON(c.w, http.StatusOK, map[string]any{"Functions": list})
	return nil
}

func (e *Emulator) updateCode(c *call) *apiError {
	var r struct {
		codeRequest
		Architectures   []string
		Publish, DryRun bool
	}
	if err := c.read(&r); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	code, err := unpack(e.dir, r.ZipFile)
	if err != nil {
		return err
	}
	return e.with(c, http.StatusOK, func(f *function, _ *version, _ reference) (any, *apiError) {
		if err := f.steady(); err != nil {
			return nil, err
		}
		v := *f.latest
		v.code, v.created = code, false
		if len(r.Architectures) > 0 {
			v.architecture = r.Architectures[0]
			if err := v.validate(); err != nil {
				return nil, err
			}
		}
		if r.DryRun {
			return v.describe(), nil
		}
		e.revise(f, &v)
		if r.Publish {
			return f.publish("").describe(), nil
		}
		return v.describe(), nil
	})
}

func (e *Emulator) updateConfiguration(c *call) *apiError {
	var r settingsRequest
	if err := c.read(&r); err != nil {
		return err
	}
	return e.with(c, http.StatusOK, func(f *function, _ *version, _ reference) (any, *apiError) {
		if err := f.steady(); err != nil {
			return nil, err
		}
		v := *f.latest
		s, err := v.apply(r)
		if err != nil {
			return nil, err
		}
		v.settings, v.created = s, false
		e.revise(f, &v)
		return v.describe(), nil
	})
}

// deleteFunction removes the function with all versions. Running invocations end as they would.
func (e *Emulator) deleteFunction(c *call) *apiError {
	return e.with(c, http.StatusNoContent, func(f *function, _ *version, ref reference) (any, *apiError) {
		if ref.qualifier != "" {
			return nil, invalidParameter("the local Lambda emulator deletes functions with all their versions only; leave out the qualifier")
		}
		delete(e.functions, f.key)
		f.deleted = true
		for _, idle := range f.idle {
			for _, env := range idle {
				e.locked(env.discard)
			}
		}
		clear(f.idle)
		return nil, nil
	})
}

func (e *Emulator) publishVersion(c *call) *apiError {
	var r struct{ Description string }
	if err := c.read(&r); err != nil {
		return err
	}
	return e.with(c, http.StatusCreated, func(f *function, _ *version, _ reference) (any, *apiError) {
		if err := f.steady(); err != nil {
			return nil, err
		}
		return f.publish(r.Description).describe(), nil
	})
}

func (e *Emulator) createAlias(c *call) *apiError {
	var r struct{ Name, FunctionVersion, Description string }
	if err := c.read(&r); err != nil {
		return err
	}
	return e.with(c, http.StatusCreated, func(f *function, _ *version, _ reference) (any, *apiError) {
		if !qualifier.MatchString(r.Name) || r.Name[0] == '$' {
			return nil, violated(r.Name, "name", `Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)`)
		}
		if f.aliases[r.Name] != nil {
			return nil, conflict("Alias already exists: %s:%s", f.arn, r.Name)
		}
		if _, err := f.resolve(r.FunctionVersion); err != nil {
			return nil, err
		}
		a := &alias{Name: r.Name, AliasArn: f.arn + ":" + r.Name, FunctionVersion: r.FunctionVersion, Description: r.Description, RevisionId: newID()}
		f.aliases[r.Name] = a
		return a, nil
	})
}

func (e *Emulator) getAlias(c *call) *apiError {
	return e.with(c, http.StatusOK, func(f *function, _ *version, _ reference) (any, *apiError) {
		a := f.aliases[c.r.PathValue("alias")]
		if a == nil {
			return nil, notFound("Cannot find alias arn: %s:%s", f.arn, c.r.PathValue("alias"))
		}
		return a, nil
	})
}

// minUnreserved is what AWS keeps for functions without a reservation.
const minUnreserved = 100

func (e *Emulator) putConcurrency(c *call) *apiError {
	var r struct{ ReservedConcurrentExecutions *int }
	if err := c.read(&r); err != nil {
		return err
	}
	return e.with(c, http.StatusOK, func(f *function, _ *version, _ reference) (any, *apiError) {
		if r.ReservedConcurrentExecutions == nil || *r.ReservedConcurrentExecutions < 0 {
			return nil, violated("null", "reservedConcurrentExecutions", "Member must have value greater than or equal to 0")
		}
		old := 0
		if f.reserved != nil {
			old = *f.reserved
		}
		keep := min(minUnreserved, e.config.Concurrency)
		if e.unreserved()+old-*r.ReservedConcurrentExecutions < keep {
			return nil, invalidParameter("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", keep)
		}
		f.reserved = r.ReservedConcurrentExecutions
		return map[string]int{"ReservedConcurrentExecutions": *f.reserved}, nil
	})
}

func (e *Emulator) getConcurrency(c *call) *apiError {
	return e.with(c, http.StatusOK, func(f *function, _ *version, _ reference) (any, *apiError) {
		if f.reserved == nil {
			return struct{}{}, nil
		}
		return map[string]int{"ReservedConcurrentExecutions": *f.reserved}, nil
	})
}

func (e *Emulator) deleteConcurrency(c *call) *apiError {
	return e.with(c, http.StatusNoContent, func(f *function, _ *version, _ reference) (any, *apiError) {
		f.reserved = nil
		return nil, nil
	})
}

// unreserved is what of the account's limit is not reserved by a function. Emulator.mu is held.
func (e *Emulator) unreserved() int {
	n := e.config.Concurrency
	for _, f := range e.functions {
		if f.reserved != nil {
			n -= *f.reserved
		}
	}
	return n
}

func (e *Emulator) accountSettings(c *call) *apiError {
	e.mu.Lock()
	var size int64
	for _, f := range e.functions {
		size += f.latest.code.size
	}
	answer := map[string]map[string]int64{
		"AccountLimit": {"TotalCodeSize": 75 << 30, "CodeSizeUnzipped": maxUnpackedBytes, "CodeSizeZipped": maxZipBytes,
			"ConcurrentExecutions": int64(e.config.Concurrency), "UnreservedConcurrentExecutions": int64(e.unreserved())},
		"AccountUsage": {"TotalCodeSize": size, "FunctionCount": int64(len(e.functions))},
	}
	e.mu.Unlock()
	writeJSON(c.w, http.StatusOK, answer)
	return nil
}
