package live

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"portolan/internal/fleet"
)

// pods are those of a list: the nth has a container, and a message of so many
// bytes that says why it is not ready.
func pods(t *testing.T, n, message int) []Pod {
	t.Helper()
	out := make([]Pod, n)
	for i := range out {
		text := fmt.Sprintf(`{"metadata":{"name":"web-6d4cf56db6-%05d","uid":"5a1b9b4e-0000-0000-0000-%012d"},
			"spec":{"nodeName":"aks-pool-12345678-vmss000001","containers":[{"name":"web"}]},
			"status":{"phase":"Pending","containerStatuses":[{"name":"web","state":{"waiting":{"reason":"ImagePullBackOff","message":%q}}}]}}`,
			i, i, strings.Repeat("x", message))
		if err := json.Unmarshal([]byte(text), &out[i]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestAttack13AClusterDoesNotFillThePages: what is told of a workload is stored,
// and sent to every open page, with each change that a cluster makes up.
func TestAttack13AClusterDoesNotFillThePages(t *testing.T) {
	t.Parallel()
	const most = 4 << 20 // bytes
	tell := func(s Sight) (fleet.Observation, int) {
		s.Kind = fleet.KindDeployment
		o := s.Observation("w", "ns", fleet.Exposure{}, time.Now())
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(o.Pods) + o.PodsOmitted; n != len(s.Pods) {
			t.Errorf("%d of %d pods are shown or counted", n, len(s.Pods))
		}
		return o, len(text)
	}
	var said Controller
	for range maxTexts {
		word := strings.Repeat("x", maxText)
		said.Status.Conditions = append(said.Status.Conditions, Condition{Type: word, Status: word, Reason: word, Message: word})
	}
	o, size := tell(Sight{Controller: &said, Pods: pods(t, 10_000, maxText)})
	if size > most {
		t.Errorf("%d MiB are told of a workload", size>>20)
	}
	if len(o.Pods) == 0 || len(o.Conditions) == 0 {
		t.Errorf("%d pods and %d conditions are told of", len(o.Pods), len(o.Conditions))
	}
	if o, _ = tell(Sight{Pods: pods(t, fleet.MaxReplicas*5/4, 500)}); o.PodsOmitted != 0 {
		t.Errorf("%d pods of a workload as large as may be are left out", o.PodsOmitted)
	}
}
