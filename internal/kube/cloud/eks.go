package cloud

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"portolan/internal/fleet"
)

// An EKS token is a request for the caller's identity, signed for STS with the
// cluster's name and not sent: the API server sends it, and learns from STS who
// signed. Its form is that of aws-iam-authenticator.
const (
	eksPrefix = "k8s-aws-v1."
	eksHeader = "x-k8s-aws-id"
	// EKS accepts a token for 15 minutes after it was signed.
	eksLifetime = 15 * time.Minute
	eksMargin   = time.Minute
	// X-Amz-Expires, in seconds; the API server looks at the time of signing.
	eksExpires = "60"
	emptyHash  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
)

type eks struct {
	cluster, region, profile string
	role, externalID         string
	static                   aws.Credentials // from the stanza's own variables
}

// Kind implements Recipe.
func (eks) Kind() string { return "EKS token" }

// Cloud implements Recipe.
func (eks) Cloud() fleet.Cloud { return fleet.CloudAWS }

// Ambient implements Recipe.
func (e eks) Ambient() bool { return e.static.AccessKeyID == "" }

// Unknown implements Recipe.
func (eks) Unknown() string {
	return "The key may be deleted or its secret wrong, the cluster's name in the stanza may be another's, or the cluster does not know the identity: give it an access entry (aws eks create-access-entry) or a line in the ConfigMap aws-auth."
}

func (eks) refuse(bool) *Refusal { return nil }

const awsRemedy = "Use the stanza that “aws eks update-kubeconfig” writes. " + ServiceAccountRemedy

// readAWS reads “aws … eks get-token …”.
func readAWS(s Stanza) (Recipe, *Refusal) {
	f, unknown := options{
		takes: long("--region", "--profile", "--output", "--cluster-name", "--cluster-id", "--role-arn", "--color", "--cli-connect-timeout", "--cli-read-timeout", "--query"),
		alone: []string{"--no-cli-pager", "--debug", "--no-cli-auto-prompt"},
	}.read(s.Args)
	switch {
	case unknown != "" && slices.Contains(s.Args, "get-token"):
		return nil, refuseOption("aws", unknown)
	case unknown != "", !slices.Equal(f.words, []string{"eks", "get-token"}):
		return nil, &Refusal{What: "runs aws for something else than “aws eks get-token”.", Remedy: awsRemedy}
	case f.values["--query"] != "" || f.values["--output"] != "" && f.values["--output"] != "json":
		return nil, &Refusal{What: "asks aws for another output than the token as json.", Remedy: awsRemedy}
	}
	e := eks{
		cluster: cmp.Or(f.values["--cluster-id"], f.values["--cluster-name"]),
		region:  f.values["--region"], profile: f.values["--profile"], role: f.values["--role-arn"],
	}
	return e.complete("aws", s)
}

// readAuthenticator reads “aws-iam-authenticator token -i …”.
func readAuthenticator(s Stanza) (Recipe, *Refusal) {
	takes := long("--cluster-id", "--role", "--region", "--external-id", "--session-name", "--log-format")
	for short, name := range map[string]string{"-i": "--cluster-id", "-r": "--role", "-e": "--external-id", "-s": "--session-name", "-l": "--log-format"} {
		takes[short] = name
	}
	f, unknown := options{takes: takes, alone: []string{"--cache"}}.read(s.Args)
	switch {
	case unknown != "":
		return nil, refuseOption("aws-iam-authenticator", unknown)
	case !slices.Equal(f.words, []string{"token"}):
		return nil, &Refusal{What: "runs aws-iam-authenticator for something else than “aws-iam-authenticator token”.", Remedy: awsRemedy}
	}
	e := eks{
		cluster: f.values["--cluster-id"], region: f.values["--region"],
		role: f.values["--role"], externalID: f.values["--external-id"],
	}
	return e.complete("aws-iam-authenticator", s)
}

// Lengths are bounded apart (tooLong): a pattern that counts takes a megabyte.
var (
	regionPattern  = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-\d+$`)
	rolePattern    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+$`)
	clusterPattern = regexp.MustCompile(`^[0-9A-Za-z][A-Za-z0-9_-]*$`)
	profilePattern = regexp.MustCompile(`^[\w .@/+=:-]*$`)
)

// complete adds what the stanza's variables and the server say, and checks it.
func (e eks) complete(program string, s Stanza) (Recipe, *Refusal) {
	if name := strangeVariable(s.Env, "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_STS_REGIONAL_ENDPOINTS",
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"); name != "" {
		return nil, refuseVariable(program, name)
	}
	e.profile = cmp.Or(e.profile, s.Env["AWS_PROFILE"], s.Env["AWS_DEFAULT_PROFILE"])
	e.region = cmp.Or(e.region, s.Env["AWS_REGION"], s.Env["AWS_DEFAULT_REGION"], regionOf(s.Server))
	e.static = aws.Credentials{
		AccessKeyID: s.Env["AWS_ACCESS_KEY_ID"], SecretAccessKey: s.Env["AWS_SECRET_ACCESS_KEY"], SessionToken: s.Env["AWS_SESSION_TOKEN"],
	}
	switch {
	case tooLong(e.cluster, e.region, e.role, e.profile, e.externalID):
		return nil, refuseLength(program)
	case !clusterPattern.MatchString(e.cluster):
		return nil, &Refusal{What: "does not name the EKS cluster.", Remedy: awsRemedy}
	case e.region != "" && !regionPattern.MatchString(e.region):
		return nil, &Refusal{What: "names an AWS region that has not the form of one.", Remedy: awsRemedy}
	case e.role != "" && !rolePattern.MatchString(e.role):
		return nil, &Refusal{What: "names an IAM role that has not the form of one (arn:aws:iam::123456789012:role/name).", Remedy: awsRemedy}
	case !profilePattern.MatchString(e.profile):
		return nil, &Refusal{What: "names an AWS profile with characters that Portolan does not take.", Remedy: awsRemedy}
	case (e.static.AccessKeyID == "") != (e.static.SecretAccessKey == ""):
		return nil, &Refusal{What: "holds half an AWS access key.", Remedy: "Seal the access key with the cluster instead."}
	}
	return e, nil
}

// regionOf reads the region from the address of an EKS API server:
// https://ID.gr7.eu-west-1.eks.amazonaws.com.
func regionOf(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	for _, domain := range eksDomains {
		if name, ok := strings.CutSuffix(host, "."+domain); ok {
			if region := name[strings.LastIndexByte(name, '.')+1:]; regionPattern.MatchString(region) {
				return region
			}
		}
	}
	return ""
}

// defaultRegion is where STS is asked when nothing names a region. Any one of
// its partition does.
const defaultRegion = "us-east-1"

func (e eks) maker(cred fleet.CloudCredential, o Options) (maker, error) {
	m := eksMaker{eks: e, options: o, lifetime: cmp.Or(o.EKSLifetime, eksLifetime-eksMargin)}
	if cred.Cloud == fleet.CloudAWS {
		m.static = aws.Credentials{AccessKeyID: cred.AWSAccessKeyID, SecretAccessKey: cred.AWSSecretAccessKey}
	}
	return m.make, nil
}

type eksMaker struct {
	eks
	options  Options
	lifetime time.Duration
}

// client is the SDK's own, which knows to be quick about a metadata service
// that is not there.
func (m eksMaker) client() aws.HTTPClient {
	if m.options.HTTP != nil {
		return m.options.HTTP
	}
	return nil
}

// config returns how to speak to AWS, as its SDK finds it where no key is given.
// Nothing of it is kept for the next token: keys of a role that are as old as
// the token before would end in the midst of the next one's life.
func (m eksMaker) config(ctx context.Context) (aws.Config, error) {
	var cfg aws.Config
	if m.static.AccessKeyID != "" {
		cfg = aws.Config{
			Region: m.region, HTTPClient: m.client(),
			Credentials: credentials.StaticCredentialsProvider{Value: m.static},
		}
	} else {
		load := []func(*config.LoadOptions) error{config.WithHTTPClient(m.client())}
		if m.region != "" {
			load = append(load, config.WithRegion(m.region))
		}
		if m.profile != "" {
			load = append(load, config.WithSharedConfigProfile(m.profile))
		}
		var err error
		if cfg, err = config.LoadDefaultConfig(ctx, load...); err != nil {
			return cfg, err
		}
	}
	cfg.Region = cmp.Or(cfg.Region, defaultRegion)
	if m.options.STS != "" {
		cfg.BaseEndpoint = aws.String(m.options.STS)
	}
	return cfg, nil
}

// assume returns keys of the stanza's role for those of cfg.
func (m eksMaker) assume(ctx context.Context, cfg aws.Config) (aws.Credentials, error) {
	return stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), m.role, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = "portolan"
		if m.externalID != "" {
			o.ExternalID = aws.String(m.externalID)
		}
	}).Retrieve(ctx)
}

func (m eksMaker) make(ctx context.Context) (Token, error) {
	cfg, err := m.config(ctx)
	if err != nil {
		return Token{}, awsFailure(err, m.eks, false)
	}
	creds, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return Token{}, awsFailure(err, m.eks, false)
	}
	if m.role != "" {
		// The keys that were found, so that what fails now is the role.
		cfg.Credentials = credentials.StaticCredentialsProvider{Value: creds}
		if creds, err = m.assume(ctx, cfg); err != nil {
			return Token{}, awsFailure(err, m.eks, true)
		}
	}
	endpoint, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, sts.EndpointParameters{Region: aws.String(cfg.Region)})
	if err != nil {
		return Token{}, awsFailure(err, m.eks, true)
	}
	u := endpoint.URI
	u.Path = "/"
	u.RawQuery = url.Values{"Action": {"GetCallerIdentity"}, "Version": {"2011-06-15"}, "X-Amz-Expires": {eksExpires}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Token{}, err
	}
	req.Header.Set(eksHeader, m.cluster)
	now := time.Now()
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, creds, req, emptyHash, "sts", cfg.Region, now)
	if err != nil {
		return Token{}, err
	}
	token := Token{Value: eksPrefix + base64.RawURLEncoding.EncodeToString([]byte(signed)), Expires: now.Add(m.lifetime)}
	if creds.CanExpire && creds.Expires.Before(token.Expires) {
		token.Expires = creds.Expires
	}
	return token, nil
}
