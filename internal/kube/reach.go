package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"portolan/internal/fleet"
	"portolan/internal/kube/cloud"
)

// credential reads the kubeconfig and the dates in it.
func (r *run) credential(ctx context.Context) outcome {
	if r.req.KubeconfigErr != nil {
		message, remedy := refusalOf(r.req.KubeconfigErr)
		return failed(remedy, "%s", message)
	}
	k, err := Parse(r.req.Kubeconfig, ParseOptions{
		Context: r.req.Cluster.Context, Allows: r.req.Cluster.Allows, Cloud: r.req.Cloud, Destination: r.req.Cluster.Cloud.Destination,
	})
	if err != nil {
		message, remedy := refusalOf(err)
		return failed(remedy, "%s", message)
	}
	facts := k.Facts("")
	r.test.Credential, r.endpoint = facts, k.chosen.endpoint()
	if r.config, err = k.RESTConfig(""); err != nil {
		message, remedy := refusalOf(err)
		return failed(remedy, "%s", message)
	}
	u, err := url.Parse(r.config.Host)
	if err != nil {
		return failed("", "The server is not a URL.")
	}
	r.host, r.port = u.Hostname(), u.Port()
	if r.port == "" {
		r.port = "443"
	}

	tokens, err := k.tokens(r.opts.Cloud)
	if err != nil {
		message, remedy := refusalOf(err)
		return failed(remedy, "%s", message)
	}
	if tokens != nil {
		return r.makeToken(ctx, k, tokens)
	}

	what, now := facts.Kind, time.Now()
	if facts.Subject != "" {
		what += " of " + facts.Subject
	}
	if cred, refused := k.credential(r.req.Cluster.Context); refused == nil && cred.leaf != nil && now.Before(cred.leaf.NotBefore) {
		return failed("Check the clock of the machine Portolan runs on.", "The %s is valid only from %s on.", what, day(cred.leaf.NotBefore))
	}
	remedy := "Replace the kubeconfig before then."
	if facts.Kind == oidcToken {
		remedy = "The identity provider's token cannot be renewed here: put a fresh one into the kubeconfig before then, or use a service account's token, which the form prints the commands for."
	}
	switch {
	case facts.NotAfter.IsZero():
		return passed("Context %s: %s.", quote(facts.Context), what)
	case now.After(facts.NotAfter):
		return failed("Make a new kubeconfig and put it in place of this one.", "The %s expired on %s.", what, day(facts.NotAfter))
	case facts.NotAfter.Sub(now) < fleet.ExpiryWarning:
		return warned(remedy, "The %s expires on %s.", what, day(facts.NotAfter))
	default:
		return passed("Context %s: %s, valid until %s.", quote(facts.Context), what, day(facts.NotAfter))
	}
}

// makeToken makes the first token of a managed cluster, so that a cloud that
// refuses is told from an API server that does.
func (r *run) makeToken(ctx context.Context, k *Kubeconfig, tokens *cloud.Tokens) outcome {
	cred, refused := k.credential(r.req.Cluster.Context)
	if refused != nil {
		return failed(refused.remedy, "%s", refused.message)
	}
	r.recipe = cred.recipe
	ctx, cancel := context.WithTimeout(ctx, r.req.Deadline/2)
	defer cancel()
	token, err := tokens.Token(ctx)
	if err != nil {
		message, remedy := refusalOf(err)
		return failed(remedy, "%s", message)
	}
	r.config.WrapTransport = tokens.Authorize
	from := "the credentials of Portolan's own machine"
	if i := r.req.Cloud.Identity(); i.Sealed() {
		from = "the sealed " + i.String()
	}
	says := fmt.Sprintf("Context %s: an %s made from %s, good for %s and renewed before its end.",
		quote(cred.context), cred.recipe.Kind(), plain(from, 300), minutes(time.Until(token.Expires)))
	if k.ambient(cred) && r.opts.Cloud.Servers.Empty() && !cloud.Theirs(cred.recipe.Cloud(), cred.server) {
		return warned("If you trust that server with it, name it in PORTOLAN_CLOUD_SERVERS, which keeps such tokens from all others. If not, disable the cluster, or seal a credential of its own with it.",
			"%s It goes to %s, which is none of the addresses of %s clusters.", says, shown(cred.server), cred.recipe.Cloud())
	}
	return passed("%s", says)
}

// minutes writes how long a token is good.
func minutes(d time.Duration) string {
	if d < 2*time.Minute {
		return seconds(d.Round(time.Second))
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

// resolve finds the addresses of the API server, or of the proxy before it: that
// one looks up the API server's name itself, so that its addresses are not
// known here.
func (r *run) resolve(ctx context.Context) outcome {
	r.way = wayOf(r.config, r.opts.Policy)
	if r.way.proxy == nil {
		return r.lookUp(ctx, r.host)
	}
	host := r.way.proxy.Hostname()
	out := r.lookUp(ctx, host)
	if out.state == fleet.CheckOK {
		out.message = "Through the proxy: " + out.message
		if _, err := netip.ParseAddr(r.host); err != nil {
			out.message += " It looks up " + r.host + " itself, so that only the proxy can refuse addresses of that name."
		}
	}
	return out
}

func (r *run) lookUp(ctx context.Context, host string) outcome {
	if addr, err := netip.ParseAddr(host); err == nil {
		return passed("%s is an address, no name to look up.", addr)
	}
	ctx, cancel := r.share(ctx)
	defer cancel()
	addrs, err := r.opts.Policy.Resolver.LookupNetIP(ctx, "ip", host)
	var dns *net.DNSError
	switch {
	case err == nil:
		var list []string
		for _, a := range addrs {
			list = append(list, a.Unmap().String())
		}
		return passed("%s is %s.", host, strings.Join(list, ", "))
	case timedOut(err):
		return failed("Check the name servers of the machine Portolan runs on.", "The name %s could not be looked up: no name server answered in time.", host)
	case errors.As(err, &dns) && dns.IsNotFound:
		return failed("Check the server in the kubeconfig, and that the name is known where Portolan runs: the names of private clusters often are known only inside their network.",
			"There is no such name as %s.", host)
	default:
		return failed("Check the name servers of the machine Portolan runs on.", "The name %s could not be looked up.", host)
	}
}

// connect opens the TCP connection.
func (r *run) connect(ctx context.Context) outcome {
	ctx, cancel := r.share(ctx)
	defer cancel()
	conn, err := r.way.dial(ctx, "tcp", net.JoinHostPort(r.host, r.port))
	if err != nil {
		return r.unreachable(err)
	}
	r.conn = conn
	if r.way.proxy != nil {
		return passed("Connected to %s through the proxy %s.", net.JoinHostPort(r.host, r.port), r.way.firstHop(""))
	}
	return passed("Connected to %s.", conn.RemoteAddr())
}

// unreachable explains why no TCP connection came about.
func (r *run) unreachable(err error) outcome {
	at := r.way.firstHop(net.JoinHostPort(r.host, r.port))
	var proxy *proxyError
	switch {
	case errors.As(err, &proxy):
		return failed("Check the proxy-url, and that the proxy lets Portolan through to "+net.JoinHostPort(r.host, r.port)+".", "The proxy %s %s.", at, proxy.says)
	case errors.Is(err, errRefusedAddress):
		reason := err.Error()
		if _, after, ok := strings.Cut(reason, errRefusedAddress.Error()+": "); ok {
			reason = after
		}
		return failed("Use the address of the API server itself.", "Portolan does not connect there: %s.", reason)
	case timedOut(err):
		return failed("A firewall or a security group probably drops the packets: allow TCP from where Portolan runs. A private cluster needs a route into its network.",
			"%s did not answer within %s: neither accepted nor refused.", at, r.waited())
	case errors.Is(err, syscall.ECONNREFUSED):
		return failed("Check that the API server runs and that the port is right.", "%s refused the connection: nothing listens there.", at)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return failed("Check the routes between here and there (VPN, peering).", "There is no route to %s.", at)
	case errors.Is(err, syscall.ECONNRESET):
		return failed("Something on the way, such as a firewall, ends connections to it.", "The connection to %s was reset.", at)
	default:
		return failed("Check the address of the API server.", "No connection to %s could be made.", at)
	}
}

// handshake checks that who answers is whom the kubeconfig means.
func (r *run) handshake(ctx context.Context) outcome {
	config, err := rest.TLSConfigFor(r.config)
	if err != nil {
		return failed("", "The certificates of the kubeconfig cannot be used.")
	}
	if config == nil { // nothing but the system's authorities and a token
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName = r.host
	}
	config.NextProtos = []string{"h2", "http/1.1"}
	if r.quiet() {
		// It asks one question after another: HTTP/2's frames would cost both sides a
		// tenth more.
		config.NextProtos = []string{"http/1.1"}
	}
	r.tlsConfig = config
	ctx, cancel := r.share(ctx)
	defer cancel()
	conn := tls.Client(r.conn, config)
	r.conn = nil
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return r.insecure(err, config.ServerName)
	}
	_ = r.opened.add(conn) // the test has not ended
	r.greeted.Store(conn)
	state := conn.ConnectionState()
	if config.InsecureSkipVerify {
		return warned("Put the cluster's certificate-authority-data into the kubeconfig in place of insecure-skip-tls-verify.",
			"%s, but the certificate is not checked, as this cluster's kubeconfig wants and its form allows: whoever answers gets the credential.", tls.VersionName(state.Version))
	}
	leaf := state.PeerCertificates[0]
	if left := time.Until(leaf.NotAfter); left < fleet.ExpiryWarning {
		return warned("Renew the API server's certificate.", "The API server's certificate expires on %s.", day(leaf.NotAfter))
	}
	return passed("%s, the certificate for %s is valid until %s.", tls.VersionName(state.Version), config.ServerName, day(leaf.NotAfter))
}

// insecure explains why no TLS connection came about.
func (r *run) insecure(err error, name string) outcome {
	at := net.JoinHostPort(r.host, r.port)
	var notTLS tls.RecordHeaderError
	var invalid x509.CertificateInvalidError
	var wrongName x509.HostnameError
	var foreign x509.UnknownAuthorityError
	var alert tls.AlertError
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.As(err, &notTLS):
		if bytes.HasPrefix(notTLS.RecordHeader[:], []byte("HTTP/")) {
			return failed("Use the port on which the API server speaks https, usually 6443 or 443.", "%s speaks plain HTTP, not TLS.", at)
		}
		return failed("Check the port: an API server usually listens on 6443 or 443.", "%s does not speak TLS.", at)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return expiredCertificate(invalid.Cert)
	case errors.As(err, &wrongName):
		return failed("Use one of those names as the server, or set tls-server-name in the kubeconfig.",
			"The API server's certificate is not for %s but for %s.", name, namesOf(wrongName.Certificate))
	case errors.As(err, &foreign):
		return r.foreignCertificate(err)
	case errors.As(err, &unverified):
		return failed("Compare the kubeconfig's certificate-authority-data with the cluster's.", "The API server's certificate is not acceptable: %s.", plain(unverified.Err.Error(), 160))
	case errors.As(err, &alert), strings.Contains(err.Error(), remoteAlert):
		return failed("A load balancer or proxy before the API server may want another name or another client certificate.", "%s broke off the TLS handshake: %s.", at, alertText(err))
	case timedOut(err):
		return failed("Something accepts connections on that port but is no TLS server, or a load balancer has no healthy API server behind it.",
			"%s accepted the connection, but did not answer the TLS handshake within %s.", at, r.waited())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return failed("Check the port, and that a load balancer before the API server has a healthy one behind it.", "%s closed the connection during the TLS handshake.", at)
	default:
		return failed("Check that the port is that of the API server.", "The TLS handshake with %s failed.", at)
	}
}

// remoteAlert begins how crypto/tls tells the alerts of the other side.
const remoteAlert = "remote error: tls: "

func alertText(err error) string {
	text := err.Error()
	if _, after, ok := strings.Cut(text, remoteAlert); ok {
		text = after
	}
	return plain(text, 120)
}

func expiredCertificate(cert *x509.Certificate) outcome {
	whose := "The API server's certificate"
	if cert.IsCA {
		whose = "The certificate authority " + quote(cert.Subject.CommonName)
	}
	if time.Now().Before(cert.NotBefore) {
		return failed("Check the clocks of both machines.", "%s is valid only from %s on.", whose, day(cert.NotBefore))
	}
	return failed("Renew it on the cluster (with kubeadm: “kubeadm certs renew all”; k3s renews at a restart).", "%s expired on %s.", whose, day(cert.NotAfter))
}

func (r *run) foreignCertificate(err error) outcome {
	issuer := "someone else"
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0 {
		if name := unverified.UnverifiedCertificates[0].Issuer.CommonName; name != "" {
			issuer = quote(name)
		}
	}
	if len(r.config.CAData) == 0 {
		return failed("Put the cluster's certificate-authority-data into the kubeconfig.",
			"The API server's certificate was issued by %s, which this machine does not trust, and the kubeconfig names no certificate authority.", issuer)
	}
	return failed("The cluster may have been made anew, or something on the way intercepts TLS: fetch a fresh kubeconfig from the cluster, and compare.",
		"The API server's certificate was issued by %s, not by the certificate authority in the kubeconfig.", issuer)
}

// namesOf lists the names and addresses a certificate is for.
func namesOf(cert *x509.Certificate) string {
	names := make([]string, 0, len(cert.DNSNames)+len(cert.IPAddresses))
	for _, name := range cert.DNSNames {
		names = append(names, plain(name, 100))
	}
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return "no name at all"
	case len(names) > 12:
		return strings.Join(names[:12], ", ") + fmt.Sprintf(" and %d more", len(names)-12)
	default:
		return strings.Join(names, ", ")
	}
}
