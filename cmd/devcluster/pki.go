package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// authority is the one certificate authority of a cluster.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

// identity is whom a certificate is for. Hosts are the names and addresses it
// may serve as; Kubernetes reads the user from Name and the groups from Groups.
type identity struct {
	Name   string
	Groups []string
	Hosts  []string
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "devcluster"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if template.SerialNumber, err = serial(); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{certificate, key, encodePEM("CERTIFICATE", der)}, nil
}

func loadAuthority(certFile, keyFile string) (*authority, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s or its key is not PEM", certFile)
	}
	certificate, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	return &authority{certificate, key, certPEM}, nil
}

// issue makes a certificate and its key, in PEM, that is good for the given
// time from now; a negative time makes one that has expired.
func (a *authority) issue(who identity, good time.Duration) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	until := time.Now().Add(good)
	from := time.Now()
	if until.Before(from) {
		from = until
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: who.Name, Organization: who.Groups},
		NotBefore:   from.Add(-time.Hour),
		NotAfter:    until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, host := range who.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if template.SerialNumber, err = serial(); err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := encodeKey(private)
	if err != nil {
		return nil, nil, err
	}
	return encodePEM("CERTIFICATE", der), keyPEM, nil
}

func serial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return encodePEM("EC PRIVATE KEY", der), nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writePKI makes the authority and every certificate and key of the cluster's
// programs under pki/, and the kubeconfigs of those that are clients.
func (c *cluster) writePKI() error {
	if err := os.MkdirAll(c.path("pki"), 0o700); err != nil {
		return err
	}
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	caKey, err := encodeKey(ca.key)
	if err != nil {
		return err
	}
	accounts, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	accountsKey, err := encodeKey(accounts)
	if err != nil {
		return err
	}
	if err := c.writePEM("ca", ca.pem, caKey); err != nil {
		return err
	}
	if err := c.writePEM("service-accounts", nil, accountsKey); err != nil {
		return err
	}
	idTokens, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	idTokensKey, err := encodeKey(idTokens)
	if err != nil {
		return err
	}
	if err := c.writePEM("issuer-tokens", nil, idTokensKey); err != nil {
		return err
	}

	const year = 365 * 24 * time.Hour
	masters := []string{"system:masters"}
	servers := map[string]identity{
		"etcd":   {Name: "etcd", Hosts: []string{"127.0.0.1", "localhost"}},
		"issuer": {Name: "issuer", Hosts: []string{"127.0.0.1"}},
		"apiserver": {Name: "kube-apiserver", Hosts: []string{"127.0.0.1", "localhost", firstServiceIP, c.nodeIP(),
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}},
		"apiserver-to-etcd":    {Name: "kube-apiserver"},
		"apiserver-to-kubelet": {Name: "kube-apiserver-kubelet-client", Groups: masters},
		"kubelet":              {Name: c.nodeName(), Hosts: []string{c.nodeIP(), c.nodeName(), "localhost", "127.0.0.1"}},
	}
	for file, who := range servers {
		cert, key, err := ca.issue(who, year)
		if err != nil {
			return err
		}
		if err := c.writePEM(file, cert, key); err != nil {
			return err
		}
	}
	clients := map[string]identity{
		"admin":                   {Name: "devcluster-admin", Groups: masters},
		"kwok":                    {Name: "kwok", Groups: masters},
		"kube-controller-manager": {Name: "system:kube-controller-manager"},
		"kube-scheduler":          {Name: "system:kube-scheduler"},
		"kube-proxy":              {Name: "system:kube-proxy"},
		"kubelet":                 {Name: "system:node:" + c.nodeName(), Groups: []string{"system:nodes"}},
	}
	for file, who := range clients {
		cert, key, err := ca.issue(who, year)
		if err != nil {
			return err
		}
		if err := writeKubeconfig(c.path(file+".kubeconfig"), c.kubeconfig(ca.pem, certificateUser(cert, key))); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) writePEM(name string, cert, key []byte) error {
	if cert != nil {
		if err := os.WriteFile(c.path("pki", name+".crt"), cert, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(c.path("pki", name+".key"), key, 0o600)
}
