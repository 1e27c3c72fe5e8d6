package e2e

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/chromedp/chromedp"
	"k8s.io/client-go/tools/clientcmd/api"

	"portolan/internal/clustertest"
)

func TestTheRotationPageShowsWhyAndThenTakesIt(t *testing.T) {
	t.Parallel()
	p := separate(t, nil)
	p.worker(t)
	on := profile{"k3s", "kwok"}
	pl := p.confine(t, on, on.kubeconfig(t), fields{"image_pull_secrets": "registry"})
	account := clustertest.AccountKubeconfig(t, on.kubeconfig(t), pl.namespace, "portolan")
	pl.rotate(t, account)
	wrong := clustertest.Edit(t, account, func(c *api.Config) {
		for name := range c.AuthInfos {
			c.AuthInfos[name] = &api.AuthInfo{Token: "a-token-nobody-issued"}
		}
	})

	s := surf(t, p.base, true)
	s.expects("422")
	s.open("/login")
	s.fill("[name=email]", adminEmail)
	s.fill("[name=password]", adminPassword)
	s.follow("main form button")
	s.open("/admin/clusters")
	s.portray("clusters-expiring")
	s.open("/deploy")
	s.portray("deploy-features")
	s.open(pl.path(""))
	s.portray("cluster-features")
	s.follow("#cluster-facts a[href$='/credential']")
	s.arrives("#cluster-form")
	s.portray("credential")
	s.paste("#f-kubeconfig", string(wrong))
	s.follow("#cluster-form button.primary")
	s.arrives("[data-error]")
	s.portray("credential-refused")
	if text := s.attribute("#f-kubeconfig", "value"); text != "" {
		t.Errorf("the kubeconfig came back: %s", text)
	}
	s.paste("#f-kubeconfig", string(account))
	s.follow("#cluster-form button.primary")
	s.arrives("[data-cluster='" + pl.id + "'][data-test-state=ok]")
	s.portray("cluster-rotated")
}

// paste puts a long text into a field at once.
func (s *surfer) paste(css, text string) {
	s.t.Helper()
	set := fmt.Sprintf("(e => { e.value = %s; e.dispatchEvent(new Event('input', {bubbles: true})); return true })(document.querySelector(%q))", strconv.Quote(text), css)
	run(s, "paste into "+css, chromedp.Evaluate[bool](set))
}
