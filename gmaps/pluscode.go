package gmaps

import "math"

// plusCode returns the open location code of p with 10 digits, a cell of 1/8000 degree: "8G6MM2CR+6X".
// The algorithm is the public specification's (github.com/google/open-location-code, specification 2024):
// latitude from the south pole and longitude from the antimeridian in base 20, digits interleaved.
func plusCode(p Point) string {
	const (
		alphabet    = "23456789CFGHJMPQRVWX"
		cellsPerDeg = 8000
		// The specification rounds at 15 digits before it cuts off at 10, so that both lengths fall into one cell.
		latSteps, lngSteps = 3125, 1024
	)
	cell := func(deg float64, steps int64, offset int64) int64 {
		return (int64(math.Floor(deg*float64(cellsPerDeg*steps))) + offset*cellsPerDeg*steps) / steps
	}
	lat := min(max(cell(p.Lat, latSteps, 90), 0), 180*cellsPerDeg-1)
	lng := cell(p.Lng, lngSteps, 180) % (360 * cellsPerDeg)

	var code [11]byte
	for i := 4; i >= 0; i-- {
		at := 2 * i
		if i == 4 {
			at++ // after the plus
		}
		code[at], code[at+1] = alphabet[lat%20], alphabet[lng%20]
		lat, lng = lat/20, lng/20
	}
	code[8] = '+'
	return string(code[:])
}
