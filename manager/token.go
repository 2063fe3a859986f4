package manager

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
	"gmaps-scraper/store"
)

// Names of the values that the store keeps for this installation.
const (
	settingSecret  = "instance_secret"
	settingKeyHash = "api_key_hash"
)

// Prefixes tell the kinds of bearer tokens apart, for people and for scanners of leaked secrets.
const (
	keyPrefix     = "gk_" // an API key that FirstKey made
	tokenPrefix   = "gw_" // a spawn's one-time token
	sessionPrefix = "gs_" // a worker's session
)

// keyBytes is how many random bytes a key has that FirstKey makes.
const keyBytes = 32

// cookieLife is how long a login to the dashboard holds.
const cookieLife = 7 * 24 * time.Hour

// signer derives every token from one secret: none is stored, and all are valid again after a restart.
type signer struct{ secret []byte }

// newSigner reads the installation's secret, or makes it at the first start.
func newSigner(ctx context.Context, s store.Store) (signer, error) {
	v, err := s.Setting(ctx, settingSecret, randomText(32))
	if err != nil {
		return signer{}, fmt.Errorf("read instance secret: %w", err)
	}
	if len(v) < 32 {
		return signer{}, errors.New("read instance secret: the stored value is too short to be one")
	}
	return signer{[]byte(v)}, nil
}

func (s signer) mac(purpose, subject string) string {
	h := hmac.New(sha256.New, s.secret)
	h.Write([]byte(purpose + ":" + subject))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// spawnToken lets the worker of one spawn join, and nothing else.
func (s signer) spawnToken(id job.SpawnID) string { return tokenPrefix + s.mac("spawn", string(id)) }

func (s signer) isSpawnToken(token string, id job.SpawnID) bool {
	return id != "" && sameText(token, s.spawnToken(id))
}

// session authenticates the worker that has joined as a spawn. It holds as long as the spawn has not ended: the store says so with every call.
// The nonce needs no place in it: the store gives a session to one nonce only.
func (s signer) session(id job.SpawnID) string {
	return sessionPrefix + string(id) + "_" + s.mac("session", string(id))
}

// spawnOf returns the spawn of a session, false for a forged one.
func (s signer) spawnOf(session string) (job.SpawnID, bool) {
	rest, ok := strings.CutPrefix(session, sessionPrefix)
	if !ok {
		return "", false
	}
	// Base64url may hold '_', an id never does.
	id, _, ok := strings.Cut(rest, "_")
	return job.SpawnID(id), ok && id != "" && sameText(session, s.session(job.SpawnID(id)))
}

// cookie is the value of a login's cookie. It names the key it was made with, so that it ends with the key.
func (s signer) cookie(key keyHash, expires time.Time) string {
	subject := strconv.FormatInt(expires.Unix(), 10) + "." + key.id()
	return subject + "." + s.mac("cookie", subject)
}

func (s signer) isCookie(value string, keys []keyHash, now time.Time) bool {
	parts := strings.Split(value, ".")
	if len(parts) != 3 || !sameText(parts[2], s.mac("cookie", parts[0]+"."+parts[1])) {
		return false
	}
	expires, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil || now.Unix() >= expires {
		return false
	}
	for _, k := range keys {
		if k.id() == parts[1] {
			return true
		}
	}
	return false
}

// keyHash is the SHA-256 of an API key. Keys made here have 256 random bits, so a slow hash would gain nothing.
type keyHash [sha256.Size]byte

func hashKey(key string) keyHash { return sha256.Sum256([]byte(key)) }

// id names a key where the key itself must not be said.
func (h keyHash) id() string { return hex.EncodeToString(h[:6]) }

// matchKey finds the key that was given. It takes the same time whichever it is.
func matchKey(keys []keyHash, given string) (keyHash, bool) {
	h := hashKey(given)
	var match keyHash
	found := 0
	for _, k := range keys {
		same := subtle.ConstantTimeCompare(k[:], h[:])
		subtle.ConstantTimeCopy(same, match[:], k[:])
		found |= same
	}
	return match, found == 1
}

// FirstKey makes the installation's API key at its first start. The store keeps its hash alone, so this is the only time
// that the key can be shown: created says so, and key is empty otherwise.
func FirstKey(ctx context.Context, s store.Store) (key api.Secret, created bool, err error) {
	k := keyPrefix + randomText(keyBytes)
	mine := hashKey(k)
	kept, err := s.Setting(ctx, settingKeyHash, hex.EncodeToString(mine[:]))
	if err != nil {
		return "", false, fmt.Errorf("keep api key: %w", err)
	}
	if kept != hex.EncodeToString(mine[:]) {
		return "", false, nil
	}
	return api.Secret(k), true, nil
}

// isMadeKey reports whether a key looks like one that FirstKey made, of 256 random bits.
func isMadeKey(key string) bool {
	text, ok := strings.CutPrefix(key, keyPrefix)
	b, err := base64.RawURLEncoding.DecodeString(text)
	return ok && err == nil && len(b) == keyBytes
}

// storedKey reads the hash of the key that FirstKey made.
func storedKey(ctx context.Context, s store.Store) (keyHash, error) {
	text, err := s.Setting(ctx, settingKeyHash, "")
	if err != nil {
		return keyHash{}, fmt.Errorf("read api key: %w", err)
	}
	var h keyHash
	if n, err := hex.Decode(h[:], []byte(text)); err != nil || n != len(h) || len(text) != 2*len(h) {
		return keyHash{}, errors.New("no api key: give one, make one with FirstKey, or switch authentication off")
	}
	return h, nil
}

func sameText(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// randomText is n random bytes as text for URLs.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b)
}
