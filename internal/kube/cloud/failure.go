package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"portolan/internal/fleet"
)

// failure is the error of a token that could not be made, in the cloud's words.
func failure(err error, remedy, message string) error {
	return &fleet.Error{Code: fleet.CodeUnavailable, Message: message, Remedy: remedy, Err: err}
}

// unanswered explains an error that is no answer of the cloud, with the remedy;
// "" = it is one.
func unanswered(err error) (why, remedy string) {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var op *net.OpError
	var timeout net.Error
	var request *url.Error
	switch {
	case errors.As(err, &dns):
		return "the name " + dns.Name + " could not be resolved", egressRemedy
	case errors.As(err, &certificate):
		return "the certificate that came is not trusted here (" + said(certificate.Err.Error()) + ")", certificateRemedy
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "there was no answer in time", egressRemedy
	case errors.As(err, &op):
		return "the connection failed", egressRemedy
	case errors.As(err, &request): // whose text may hold the address of a proxy, with its password
		return "the request failed", egressRemedy
	}
	return "", ""
}

const (
	egressRemedy      = "Portolan's own machine must reach the cloud's token service by https; look for a firewall, or set HTTPS_PROXY."
	certificateRemedy = "Something between answers in the cloud's place, such as a proxy that looks into https. Let it pass the cloud's token service on, or trust it: SSL_CERT_FILE in Portolan's environment names a file of certificate authorities."
)

// said is text of a cloud as one line of a message.
func said(text string) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)), " ")
	if runes := []rune(text); len(runes) > 400 {
		text = string(runes[:400]) + "…"
	}
	return strings.TrimSuffix(text, ".")
}

// askedSTS is what STS was asked for in vain, "" = it was not asked, such as
// because there was nothing to ask with.
func askedSTS(err error) string {
	// The innermost counts: to ask STS the library asks others first.
	var op, inner *smithy.OperationError
	for errors.As(err, &op) {
		inner, err = op, op.Err
	}
	if inner == nil || inner.ServiceID != sts.ServiceID {
		return ""
	}
	return inner.OperationName
}

// awsFailure explains why there is no token. found says that there was something
// to make it from.
func awsFailure(err error, e eks, found bool) error {
	asked := askedSTS(err)
	whose := "Portolan's own AWS credentials"
	remedy := "Check in IAM the key or the role that Portolan's machine has: a key may be deleted or deactivated, a role may not be its to assume."
	switch {
	case e.static.AccessKeyID != "":
		whose = "the access key " + e.static.AccessKeyID
		remedy = "Check the key in IAM, and make a new one if it was deleted or deactivated."
	case asked == "AssumeRoleWithWebIdentity":
		whose = "the web identity of Portolan's own pod"
		remedy = "Let the role's trust policy (of AWS_ROLE_ARN, or of the profile) name the OpenID Connect provider of the cluster that Portolan runs in, and the service account of its pod; the provider must exist in IAM."
	}
	doing := "No EKS token could be made from " + whose
	if e.role != "" && found {
		doing += " by assuming the role " + e.role
		remedy = "Allow the identity to assume the role: sts:AssumeRole in its policy, and the identity in the role's trust policy."
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return failure(err, remedy, doing+". AWS says: "+said(api.ErrorCode()+": "+api.ErrorMessage())+".")
	}
	if asked != "" || found {
		why, remedy := unanswered(err)
		if why == "" {
			why, remedy = "an answer that cannot be read", egressRemedy
		}
		return failure(err, remedy, doing+": "+why+".")
	}
	remedy = "Seal an access key with the cluster, or give Portolan credentials of its own as the AWS SDK finds them (environment, profile, role of the machine or pod)."
	if e.profile != "" {
		remedy = "The stanza names the profile " + e.profile + ", which must be in the AWS configuration of Portolan's machine. " + remedy
	}
	return failure(err, remedy, "No EKS token could be made: no AWS credentials were found.")
}
