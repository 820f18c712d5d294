package declaration

import "strings"

// nearest is the candidate that s is most probably a slip of the pen for, or
// "". A slip is at most one edit for every four characters, at most three.
func nearest(s string, candidates []string) string {
	s = strings.ToLower(s)
	best, at := "", min(3, max(1, len(s)/4))+1
	if len(s) == 0 || len(s) > 64 {
		return ""
	}
	for _, c := range candidates {
		if d := edits(s, strings.ToLower(c)); d < at {
			best, at = c, d
		}
	}
	if best == "" {
		for _, c := range candidates {
			if len(s) >= 4 && (strings.HasPrefix(c, s) || strings.HasPrefix(s, c) && len(c) >= 4) {
				return c
			}
		}
	}
	return best
}

// edits counts the insertions, deletions, changes and swaps of neighbours
// between a and b (optimal string alignment).
func edits(a, b string) int {
	if len(b) > 64 {
		return len(b)
	}
	var rows [3][66]int
	two, one, cur := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(one[j]+1, cur[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], two[j-2]+1)
			}
		}
		two, one, cur = one, cur, two
	}
	return one[len(b)]
}
