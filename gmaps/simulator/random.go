package simulator

// Every property of a synthetic place is a function of (seed, set, index), so that a place can be made on
// demand and nothing but its position is kept. The generator is SplitMix64 (Steele, Lea, Flood 2014):
// its finaliser is a bijection, which also makes the place ids invertible.

const golden = 0x9e3779b97f4a7c15

// mix is SplitMix64's finaliser.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// unmix inverts mix.
func unmix(x uint64) uint64 {
	x = (x ^ x>>31 ^ x>>62) * 0x319642b2d24d8ec3
	x = (x ^ x>>27 ^ x>>54) * 0x96de1b173f119089
	return x ^ x>>30 ^ x>>60
}

// random is a stream of numbers that depends on its keys alone.
type random uint64

// newRandom returns the stream of the given keys; their order counts.
func newRandom(keys ...uint64) random {
	var s uint64
	for _, k := range keys {
		s = mix(s+golden) ^ mix(k+golden)
	}
	return random(mix(s + golden))
}

func (r *random) next() uint64 {
	*r += golden
	return mix(uint64(*r))
}

// below returns a number in [0, n). Its bias is below n/2^32.
func (r *random) below(n int) int { return int((r.next() >> 32) * uint64(n) >> 32) }

// float returns a number in [0, 1).
func (r *random) float() float64 { return float64(r.next()>>11) / (1 << 53) }

// chance is true in percent of the cases.
func (r *random) chance(percent int) bool { return r.below(100) < percent }

func (r *random) pick(from []string) string { return from[r.below(len(from))] }

// digits returns n decimal digits, the first not 0.
func (r *random) digits(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + r.below(10))
	}
	if b[0] == '0' {
		b[0] = '7'
	}
	return string(b)
}

const idAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// token returns n characters of Google's URL-safe ids.
func (r *random) token(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = idAlphabet[r.below(64)]
	}
	return string(b)
}

// hash is FNV-1a, finalised.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}
