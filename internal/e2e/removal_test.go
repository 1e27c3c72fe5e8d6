package e2e

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/clustertest"
)

func TestB16RedeployAndDelete(t *testing.T) {
	onEach(t, func(t *testing.T, on profile) {
		pl := shared(t).settle(t, on, nil)
		w := pl.deploy(t, fields{
			"env": "GREETING=hello", "secret_env": "TOKEN=s3cret", "file_path_1": "/etc/demo/settings", "file_content_1": "a=b",
		})
		before := w.deployment(t)
		w.did(t, "redeploy", nil)
		list, err := pl.kubectl.AppsV1().Deployments(pl.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 || list.Items[0].UID == before.UID {
			t.Errorf("after the redeploy there are %d Deployments, of the old UID: %v", len(list.Items), list.Items[0].UID == before.UID)
		}
		if len(pl.objects(t)) < 5 {
			t.Errorf("after the redeploy there are only %v", pl.objects(t))
		}

		if answer := w.act(t, "delete", fields{"confirm": "wrong"}); answer.status != http.StatusUnprocessableEntity {
			t.Errorf("delete without the name typed: %d, want 422", answer.status)
		}
		ended := w.did(t, "delete", fields{"confirm": w.name})
		if left := pl.objects(t); len(left) > 0 {
			t.Errorf("left after the delete: %v", left)
		}
		expect(t, w.get(t, w.path("")), http.StatusNotFound)
		if !ended.says(w.name) {
			t.Error("the operation's page does not outlive the workload")
		}
	})
}

func TestB16DeleteOfWhatIsGoneSucceeds(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	w := pl.deploy(t, nil)
	if err := pl.kubectl.AppsV1().Deployments(pl.namespace).Delete(t.Context(), w.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pl.kubectl.CoreV1().Services(pl.namespace).Delete(t.Context(), w.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// Somebody else's object has taken the name meanwhile.
	foreign := &apps.Deployment{}
	foreign.Name, foreign.Labels = w.name, map[string]string{"app": "somebody-else"}
	foreign.Spec.Selector = &metav1.LabelSelector{MatchLabels: foreign.Labels}
	foreign.Spec.Template.Labels = foreign.Labels
	foreign.Spec.Template.Spec = w.podSpec()
	eventually(t, patience, "the Deployment to go", func() (bool, string) {
		_, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Get(t.Context(), w.name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), ""
	})
	made, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Create(t.Context(), foreign, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended := w.did(t, "delete", fields{"confirm": w.name})
	if !ended.says("Deployment/" + w.name) {
		t.Errorf("it does not say that Deployment/%s was left alone: %s", w.name, clipped(ended.text()))
	}
	if now := w.deployment(t); now.UID != made.UID || now.Generation != made.Generation {
		t.Error("somebody else's Deployment was touched")
	}
}

func TestB16KeptVolumes(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)
	for _, keep := range []string{"true", ""} {
		w := pl.deploy(t, fields{"volumes": "data=/data 64Mi"})
		w.did(t, "redeploy", nil)
		w.did(t, "delete", fields{"confirm": w.name, "keep_volumes": keep})
		_, err := pl.kubectl.CoreV1().PersistentVolumeClaims(pl.namespace).Get(t.Context(), w.name+"-data", metav1.GetOptions{})
		if keep == "" && !apierrors.IsNotFound(err) {
			t.Errorf("the claim was not deleted: %v", err)
		}
		if keep == "" {
			continue
		}
		if err != nil {
			t.Errorf("the claim was not kept: %v", err)
		}
		again := pl.begin(t, pl.draft(w.name, fields{"volumes": "data=/data 64Mi"})).ends(t, "succeeded")
		if !again.says("PersistentVolumeClaim/" + w.name + "-data was kept when an earlier workload") {
			t.Errorf("the next workload of the name does not say that it uses the volume again: %s", clipped(again.text()))
		}
	}
}

func TestB16AForbiddenDeleteFailsAndKeepsTheRow(t *testing.T) {
	t.Parallel()
	raw := real.kubeconfig(t)
	kubectl := clustertest.Client(t, raw)
	namespace := clustertest.Namespace(t, kubectl)
	role := &rbac.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "worker"},
		Rules:      []rbac.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}},
	}
	if _, err := kubectl.RbacV1().Roles(namespace).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbac.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "worker"},
		RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "Role", Name: "worker"},
		Subjects:   []rbac.Subject{{Kind: rbac.ServiceAccountKind, Name: "worker", Namespace: namespace}},
	}
	if _, err := kubectl.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	account := clustertest.AccountKubeconfig(t, raw, namespace, "worker")
	mayBecome(t, account, true, namespace, "delete", "", "services")
	pl := shared(t).stake(t, real, account, fields{"namespace": namespace})
	pl.test(t, "ok")
	w := pl.deploy(t, nil)

	// From now on Services may not be deleted.
	role.Rules = []rbac.PolicyRule{
		{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch", "create", "patch", "update"}},
		{APIGroups: []string{"apps"}, Resources: []string{"*"}, Verbs: []string{"*"}},
	}
	if _, err := kubectl.RbacV1().Roles(namespace).Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	mayBecome(t, account, false, namespace, "delete", "", "services")
	ended := w.does(t, "delete", fields{"confirm": w.name}).ends(t, "failed")
	if !ended.says("Service/"+w.name) || !ended.says("forbid") {
		t.Errorf("it does not name what was forbidden: %s", clipped(ended.text()))
	}
	w.read(t, w.path("")) // the row is kept
	role.Rules = []rbac.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}}
	if _, err := kubectl.RbacV1().Roles(namespace).Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	mayBecome(t, account, true, namespace, "delete", "", "services")
	w.did(t, "delete", fields{"confirm": w.name})
	pl.namespace = namespace
	for _, object := range pl.objects(t) {
		if !strings.HasPrefix(object, "Secret/") { // the service account's, if any
			t.Errorf("left after the delete: %s", object)
		}
	}
}

func TestB17ObjectsOfOthersAreNeverTouched(t *testing.T) {
	t.Parallel()
	pl := shared(t).settle(t, real, nil)

	t.Run("Deployment", func(t *testing.T) {
		t.Parallel()
		name := clustertest.UniqueName("taken")
		foreign := &apps.Deployment{}
		foreign.Name, foreign.Labels = name, map[string]string{"app": name}
		foreign.Spec.Selector = &metav1.LabelSelector{MatchLabels: foreign.Labels}
		foreign.Spec.Template.Labels = foreign.Labels
		foreign.Spec.Template.Spec = pl.podSpec()
		made, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Create(t.Context(), foreign, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pl.conflicts(t, name, "Deployment/"+name)
		now, err := pl.kubectl.AppsV1().Deployments(pl.namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || now.UID != made.UID || now.Generation != made.Generation || !maps.Equal(now.Labels, made.Labels) {
			t.Errorf("it was touched: %v", err)
		}
	})
	t.Run("Service", func(t *testing.T) {
		t.Parallel()
		name := clustertest.UniqueName("taken")
		foreign := pl.foreignService(name)
		made, err := pl.kubectl.CoreV1().Services(pl.namespace).Create(t.Context(), foreign, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pl.conflicts(t, name, "Service/"+name)
		now, err := pl.kubectl.CoreV1().Services(pl.namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || now.UID != made.UID || now.ResourceVersion != made.ResourceVersion {
			t.Errorf("it was touched: %v", err)
		}
	})
}

// conflicts deploys under a name that is taken, and checks that it fails with
// a conflict that names the object.
func (pl *place) conflicts(t *testing.T, name, object string) {
	t.Helper()
	ended := pl.begin(t, pl.draft(name, nil)).ends(t, "failed")
	if !ended.says("conflict", object) {
		t.Errorf("it does not say conflict and %s: %s", object, clipped(ended.text()))
	}
}
