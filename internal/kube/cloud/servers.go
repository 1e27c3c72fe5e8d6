package cloud

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"portolan/internal/fleet"
)

// Servers is a list of API servers. The zero value has none.
type Servers struct {
	names    []string // in lower case; “*.” stands for one label or more
	networks []netip.Prefix
}

// ParseServers reads a list of host names, which may begin with “*.”, of
// addresses and of networks (CIDR).
func ParseServers(texts []string) (Servers, error) {
	var s Servers
	for _, text := range texts {
		text = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(text)), ".")
		if network, err := netip.ParsePrefix(text); err == nil {
			if network.Addr().Is4In6() {
				return Servers{}, fmt.Errorf("%q is a network of IPv4 addresses in the form of IPv6; write it as IPv4, such as 10.0.0.0/8", text)
			}
			s.networks = append(s.networks, network.Masked())
			continue
		}
		if addr, err := netip.ParseAddr(text); err == nil {
			addr = addr.Unmap() // as Has compares them
			s.networks = append(s.networks, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		if name := strings.TrimPrefix(text, "*."); name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || strings.HasPrefix(name, ".") {
			return Servers{}, fmt.Errorf("%q is no host such as api.example.com or *.eks.amazonaws.com, no address and no CIDR such as 10.0.0.0/8", text)
		}
		s.names = append(s.names, text)
	}
	return s, nil
}

// Empty reports whether there is nothing in the list.
func (s Servers) Empty() bool { return len(s.names)+len(s.networks) == 0 }

// Has reports whether the server of a URL is in the list. A name is compared,
// not looked up.
func (s Servers) Has(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		return slices.ContainsFunc(s.networks, func(n netip.Prefix) bool { return n.Contains(addr) })
	}
	return slices.ContainsFunc(s.names, func(name string) bool {
		if rest, wild := strings.CutPrefix(name, "*"); wild {
			return strings.HasSuffix(host, rest) && len(host) > len(rest)
		}
		return host == name
	})
}

// eksDomains are those that EKS's API servers are in, as
// ID.gr7.eu-west-1.eks.amazonaws.com: for each of AWS's partitions the one of
// IPv4, and that of IPv6 as well. Their forms are those of
// https://docs.aws.amazon.com/eks/latest/userguide/cluster-endpoint.html, the
// suffixes those of the partitions of AWS's SDK.
var eksDomains = []string{
	"eks.amazonaws.com", "api.aws", // aws, and aws-us-gov
	"eks.amazonaws.com.cn", "api.amazonwebservices.com.cn", // aws-cn
	"eks.amazonaws.eu", "api.amazonwebservices.eu", // aws-eusc
	"eks.c2s.ic.gov", "api.aws.ic.gov", // aws-iso
	"eks.sc2s.sgov.gov", "api.aws.scloud", // aws-iso-b
	"eks.cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", // aws-iso-e
	"eks.csp.hci.ic.gov", "api.aws.hci.ic.gov", // aws-iso-f
}

// under returns the names of what is in domains.
func under(domains []string) []string {
	var out []string
	for _, domain := range domains {
		out = append(out, "*."+domain)
	}
	return out
}

// theirs are the names that API servers have in each cloud. Those of GKE mostly
// have none.
var theirs = map[fleet.Cloud]Servers{
	fleet.CloudAWS: {names: under(eksDomains)},
	// https://cloud.google.com/kubernetes-engine/docs/concepts/network-isolation
	fleet.CloudGoogle: {names: []string{"*.gke.goog"}, networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}},
	// https://learn.microsoft.com/azure/aks/outbound-rules-control-egress
	fleet.CloudAzure: {names: []string{"*.azmk8s.io", "*.azk8s.cn", "*.aks.containerservice.azure.us"}},
}

// Theirs reports whether a server's address is one that API servers have in a
// cloud.
func Theirs(c fleet.Cloud, server string) bool { return theirs[c].Has(server) }
