package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// downCommand ends a cluster.
type downCommand struct {
	Name string `required:"" help:"The cluster."`
	Dir  string `help:"Folder of the clusters."`
}

// Run returns when nothing of the cluster is left. A cluster that is not there
// is no error.
func (d *downCommand) Run() error {
	dir, err := clusterDir(d.Dir, d.Name)
	if err != nil {
		return err
	}
	unlock, err := lockCluster(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := removeCluster(dir); err != nil {
		return err
	}
	fmt.Printf("%s: down\n", d.Name)
	return nil
}

// listCommand lists clusters.
type listCommand struct {
	Dir string `help:"Folder of the clusters."`
}

// Run prints a line per cluster.
func (l *listCommand) Run() error {
	dir, err := clustersDir(l.Dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tPROFILE\tNODES\tSTATE\tSERVER")
	for _, entry := range entries {
		c, err := loadClusterAt(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue
		}
		state := "broken"
		if c.healthy(context.Background(), 30*time.Second) {
			state = "ready"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", c.Name, c.Profile, c.Nodes, state, c.server())
	}
	return table.Flush()
}
