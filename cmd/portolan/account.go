package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"portolan/internal/auth"
	"portolan/internal/fleet"
)

type userCmd struct {
	Create        userCreateCmd        `cmd:"" help:"Create an account. The password is read from standard input."`
	ResetPassword userResetPasswordCmd `cmd:"" help:"Set a new password, read from standard input, and end the account's sessions."`
}

type userCreateCmd struct {
	storeConfig
	Email string `arg:"" help:"E-mail address, by which the person signs in."`
	Role  string `enum:"viewer,operator,admin" default:"viewer" help:"What the person may do: ${enum}."`
}

// Run creates the account.
func (c userCreateCmd) Run(ctx context.Context, out io.Writer) error {
	return withAccounts(ctx, c.storeConfig, func(s *auth.Service) error {
		password, err := readPassword(out, os.Stdin)
		if err != nil {
			return err
		}
		user, err := s.CreateUser(ctx, commandLine(), c.Email, password, fleet.Role(c.Role))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "created %s as %s\n", user.Email, user.Role)
		return err
	})
}

type userResetPasswordCmd struct {
	storeConfig
	Email string `arg:"" help:"E-mail address of the account."`
}

// Run sets the password.
func (c userResetPasswordCmd) Run(ctx context.Context, out io.Writer) error {
	return withAccounts(ctx, c.storeConfig, func(s *auth.Service) error {
		password, err := readPassword(out, os.Stdin)
		if err != nil {
			return err
		}
		if err := s.ResetPassword(ctx, commandLine(), c.Email, password); err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "the password of %s is set; its sessions have ended\n", c.Email)
		return err
	})
}

// commandLine is whom the record names for what is done here.
func commandLine() fleet.Actor {
	return fleet.Actor{Email: "command line", Role: fleet.RoleAdmin}
}

func withAccounts(ctx context.Context, c storeConfig, do func(*auth.Service) error) error {
	db, end, err := c.open(ctx, "portolan user")
	if err != nil {
		return err
	}
	defer end()
	return do(auth.New(auth.Options{Store: db}))
}

// readPassword asks at a terminal, without echo, or takes the first line.
func readPassword(prompt io.Writer, in *os.File) (string, error) {
	if fd := int(in.Fd()); term.IsTerminal(fd) {
		fmt.Fprint(prompt, "Password: ")
		text, err := term.ReadPassword(fd)
		fmt.Fprintln(prompt)
		return string(text), err
	}
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

type migrateCmd struct {
	storeConfig
}

// Run brings the schema up to date.
func (c migrateCmd) Run(ctx context.Context, out io.Writer) error {
	_, end, err := c.open(ctx, "portolan migrate")
	if err != nil {
		return err
	}
	defer end()
	_, err = fmt.Fprintln(out, "the schema is up to date")
	return err
}
