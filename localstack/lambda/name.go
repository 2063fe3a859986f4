package lambda

import (
	"regexp"
	"strings"
)

const latest = "$LATEST"

// reference is what a caller may call a function: its name, a partial or a full ARN, each with or without a qualifier.
type reference struct {
	region, account, name string // region and account are empty if the caller left them out
	qualifier             string
}

var (
	functionName = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,64}$`)
	qualifier    = regexp.MustCompile(`^(\$LATEST|[a-zA-Z0-9-_]{1,128})$`)
)

// namePattern is the constraint that AWS quotes.
const namePattern = `Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`

func parseReference(s, query string) (reference, *apiError) {
	bad := violated(s, "functionName", namePattern)
	var r reference
	rest := s
	if full, ok := strings.CutPrefix(s, "arn:aws:lambda:"); ok {
		if r.region, rest, ok = strings.Cut(full, ":"); !ok {
			return r, bad
		}
	}
	if account, after, ok := strings.Cut(rest, ":"); ok && len(account) == 12 && strings.Trim(account, "0123456789") == "" {
		r.account, rest = account, after
	}
	rest = strings.TrimPrefix(rest, "function:")
	r.name, r.qualifier, _ = strings.Cut(rest, ":")
	if !functionName.MatchString(r.name) || r.region != "" && r.account == "" {
		return r, bad
	}
	if query != "" {
		if r.qualifier != "" && r.qualifier != query {
			return r, invalidParameter("The derived qualifier from the function name does not match the specified qualifier.")
		}
		r.qualifier = query
	}
	if r.qualifier != "" && !qualifier.MatchString(r.qualifier) {
		return r, violated(r.qualifier, "qualifier", `Member must satisfy regular expression pattern: (|[a-zA-Z0-9$_-]+)`)
	}
	return r, nil
}

func arnOf(region, account, name string) string {
	return "arn:aws:lambda:" + region + ":" + account + ":function:" + name
}
