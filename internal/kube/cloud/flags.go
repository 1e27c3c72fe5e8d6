package cloud

import (
	"slices"
	"strings"
	"unicode"
)

// flags is a program's command line, read as the program would.
type flags struct {
	words  []string          // what is no option
	values map[string]string // by the option's long name
}

// options says which options a program has: those that take a value, by every
// name they have and with their long name, and those that are alone.
type options struct {
	takes map[string]string
	alone []string
}

// read returns the command line, or the name of an option that is not known.
func (o options) read(args []string) (f flags, unknown string) {
	f.values = map[string]string{}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			f.words = append(f.words, arg)
			continue
		}
		name, value, joined := strings.Cut(arg, "=")
		if long, ok := o.takes[name]; ok {
			if !joined {
				if i++; i == len(args) {
					return f, name
				}
				value = args[i]
			}
			f.values[long] = strings.TrimSpace(value)
			continue
		}
		if slices.Contains(o.alone, name) {
			f.values[name] = "true"
			if joined {
				f.values[name] = value
			}
			continue
		}
		return f, name
	}
	return f, ""
}

// long makes the table of options that have one name each.
func long(names ...string) map[string]string {
	out := map[string]string{}
	for _, name := range names {
		out[name] = name
	}
	return out
}

// shown is a word of a stanza as a message may quote it.
func shown(word string) string {
	word = strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, word)
	return "“" + word[:min(len(word), 60)] + "”"
}

// strangeVariable returns the first variable of env, in order, that is neither
// used nor known to be harmless; "" = none.
func strangeVariable(env map[string]string, known ...string) string {
	var strange []string
	for name, value := range env {
		if value != "" && !slices.Contains(known, name) && !slices.Contains(harmless, name) {
			strange = append(strange, name)
		}
	}
	slices.Sort(strange)
	if len(strange) == 0 {
		return ""
	}
	return strange[0]
}

// harmless are variables that change nothing about a token.
var harmless = []string{
	"AWS_PAGER", "AWS_DEFAULT_OUTPUT", "AWS_SDK_LOAD_CONFIG", "AWS_CLI_AUTO_PROMPT", "KUBERNETES_EXEC_INFO",
	"USE_GKE_GCLOUD_AUTH_PLUGIN", "PATH", "HOME", "LANG", "LC_ALL", "TERM", "NO_COLOR",
}

func refuseOption(program, option string) *Refusal {
	return &Refusal{
		What:   "runs " + program + " with the option " + shown(option) + ", which Portolan does not understand: it makes the token itself and runs no program.",
		Remedy: "Remove the option if the token does not depend on it. " + ServiceAccountRemedy,
	}
}

func refuseVariable(program, name string) *Refusal {
	return &Refusal{
		What:   "runs " + program + " with the variable " + shown(name) + ", which Portolan does not use.",
		Remedy: "Remove it from the stanza; seal the cloud credential with the cluster, or give it to Portolan's own environment.",
	}
}

// maxWord is longer than any name, id or secret of the clouds.
const maxWord = 2048

func tooLong(words ...string) bool {
	return slices.ContainsFunc(words, func(word string) bool { return len(word) > maxWord })
}

func refuseLength(program string) *Refusal {
	return &Refusal{What: "gives " + program + " an option that is longer than any should be.", Remedy: "It may have been damaged when it was copied; copy the whole file."}
}
