package main

import (
	"strings"
	"testing"
	"time"
)

// A network that would never match what it says is told at the start: a list of
// denied ones must not be silently empty.
func TestNetworksThatMatchNothingAreRefused(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"10.0.0.0/8":             "",
		"fd00::/8":               "",
		"10.0.0.0":               "is not a CIDR",
		"::ffff:10.0.0.0/104":    "as IPv4",
		"::ffff:192.168.0.0/112": "as IPv4",
	} {
		_, err := clusterConfig{DenyCIDRs: []string{text}}.policy()
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), "PORTOLAN_DENY_CIDRS") || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

func TestTestsWithoutATimeAreRefused(t *testing.T) {
	t.Parallel()
	good := clusterConfig{TestInterval: time.Minute, TestDeadline: time.Second, MaxTests: 1}
	for name, set := range map[string]func(*clusterConfig){
		"":                       func(*clusterConfig) {},
		"PORTOLAN_TEST_INTERVAL": func(c *clusterConfig) { c.TestInterval = -time.Minute },
		"PORTOLAN_TEST_DEADLINE": func(c *clusterConfig) { c.TestDeadline = 0 },
		"PORTOLAN_MAX_TESTS":     func(c *clusterConfig) { c.MaxTests = 0 },
	} {
		c := good
		set(&c)
		if err := c.check(); (err == nil) != (name == "") || err != nil && !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
