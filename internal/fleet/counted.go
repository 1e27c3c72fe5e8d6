package fleet

import "strconv"

// Counted words a number of things, by the word for one of them and the word for
// any other number: "1 pod", "0 pods".
func Counted(n int, one, other string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + other
}
