package spawner

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// SecretsFile is the variable that names the file of Spec.Secrets.
const SecretsFile = "GMAPS_SECRETS_FILE"

// encodeSecrets is the content of the file that SecretsFile names.
func encodeSecrets(secrets map[string]string) []byte {
	var lines []string
	for name, value := range secrets {
		lines = append(lines, name+"="+value+"\n")
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

// ReadSecrets is what a worker reads of the file that SecretsFile names. Its error holds none of the content.
func ReadSecrets(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", SecretsFile, err)
	}
	secrets := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			return nil, fmt.Errorf("read %s: a line of %s is no NAME=VALUE", SecretsFile, path)
		}
		secrets[name] = value
	}
	return secrets, nil
}
