package adapter

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"portolan/internal/fleet"
)

func TestSecretsAreTakenOutOfWhatAClusterSays(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{"TOKEN": `hunter2"x`, "LONGER": `hunter2"x-and-more`, "MODE": "on"}
	said := `validating: token hunter2"x-and-more, quoted "hunter2\"x", encoded aHVudGVyMiJ4, mode on`
	hides := func(text string) {
		t.Helper()
		if strings.Contains(text, "hunter2") || strings.Contains(text, "aHVudGVyMiJ4") || strings.Contains(text, "and-more") {
			t.Errorf("a secret shows: %s", text)
		}
		if !strings.Contains(text, "mode on") {
			t.Errorf("more than secrets is hidden: %s", text)
		}
	}
	webhook := &apierrors.StatusError{ErrStatus: metav1.Status{
		Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: `admission webhook "x" denied the request: ` + said,
	}}

	var failure *fleet.Failure
	if err := conceal(secrets).error(fmt.Errorf("step: %w", refusal(webhook, "apply", "Secret/web-env"))); !errors.As(err, &failure) {
		t.Fatalf("no failure: %v", err)
	}
	hides(failure.Message)
	for _, text := range append(conceal(secrets).list([]string{said}), conceal(secrets).text(said)) {
		hides(text)
	}

	plain := conceal(secrets).error(fmt.Errorf("apply Secret/web-env: %w: %w", http.ErrHandlerTimeout, errors.New(said)))
	hides(plain.Error())
	if !errors.Is(plain, http.ErrHandlerTimeout) {
		t.Error("what the error is gets lost")
	}

	result := conceal(secrets).result(fleet.StepResult{Message: said, Events: []fleet.Event{{Message: said}}})
	hides(result.Message)
	hides(result.Events[0].Message)
}

// Where the values are not known, what a program says of itself may hold them.
func TestLogsAreLeftOutWhereSecretsAreNotKnown(t *testing.T) {
	t.Parallel()
	told := &fleet.Failure{Reason: "CrashLoopBackOff", Message: "It ended.", Logs: []string{"using token hunter2"}}
	var failure *fleet.Failure
	if err := withoutLogs(fmt.Errorf("step: %w", told)); !errors.As(err, &failure) || len(failure.Logs) != 0 || failure.Message != told.Message {
		t.Errorf("it says %+v", failure)
	}
	if len(told.Logs) != 1 {
		t.Error("the failure that was given has changed")
	}
}
