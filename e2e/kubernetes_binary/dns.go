package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	"github.com/spf13/cobra"
)

// CoreDNS with what cluster DNS needs of it. Its version is the newest one that needs of nothing a newer version than
// Kubernetes does.
func newDNSCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "coredns",
		DisableFlagParsing: true,
		Run: func(*cobra.Command, []string) {
			dnsserver.Directives = []string{"kubernetes"}
			coremain.Run()
		},
	}
}
