package cli

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/roles"
)

// inDir moves the test to a new directory with these files.
func inDir(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// testEnv is an environment with these variables, and what goes to stderr.
func testEnv(vars map[string]string) (Env, *bytes.Buffer) {
	var stderr bytes.Buffer
	return Env{
		Stdin: strings.NewReader(""), Stdout: new(bytes.Buffer), Stderr: &stderr,
		Getenv: func(name string) string { return vars[name] },
	}, &stderr
}

func TestHostFlags(t *testing.T) {
	const manifest = `
variable "memory" {}
host "lab" {
  uri      = "test:///default"
  data_dir = "/srv/ovsa"
}
role "runtime" { memory = var.memory }
`
	for _, test := range []struct {
		name  string
		files map[string]string
		env   map[string]string
		flags hostFlags
		want  roles.Host // without its range; zero for a bad manifest
	}{
		{"nothing said", nil, nil, hostFlags{},
			roles.Host{Name: "local", URI: "qemu:///system", DataDir: "/var/OVSA", Accel: "auto", TPM: "/dev/tpmrm0"}},
		{"the environment's TPM", nil, map[string]string{"OVSACTL_TPM": "unix:/run/tpm"}, hostFlags{},
			roles.Host{Name: "local", URI: "qemu:///system", DataDir: "/var/OVSA", Accel: "auto", TPM: "unix:/run/tpm"}},
		{"roles.hcl here", map[string]string{"roles.hcl": manifest}, nil, hostFlags{},
			roles.Host{Name: "lab", URI: "test:///default", DataDir: "/srv/ovsa", Accel: "auto", TPM: "/dev/tpmrm0"}},
		{"another file", map[string]string{"roles.hcl": "}", "other.hcl": manifest}, nil, hostFlags{file: "other.hcl"},
			roles.Host{Name: "lab", URI: "test:///default", DataDir: "/srv/ovsa", Accel: "auto", TPM: "/dev/tpmrm0"}},
		{"flags are stronger", map[string]string{"roles.hcl": manifest}, nil, hostFlags{uri: "qemu:///session", dataDir: "/tmp/x", tpm: "unix:/y"},
			roles.Host{Name: "lab", URI: "qemu:///session", DataDir: "/tmp/x", Accel: "auto", TPM: "unix:/y"}},
		{"a broken manifest", map[string]string{"roles.hcl": "}"}, nil, hostFlags{}, roles.Host{}},
		{"a missing manifest", nil, nil, hostFlags{file: "none.hcl"}, roles.Host{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inDir(t, test.files)
			env, stderr := testEnv(test.env)
			got, err := test.flags.resolve(env)
			got.Range = test.want.Range
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("host (-want +got):\n%s", diff)
			}
			var status exitStatus
			if bad := test.want.Name == ""; bad != (errors.As(err, &status) && status == exitManifest) || bad != (stderr.Len() > 0) {
				t.Errorf("error %v, stderr %q", err, stderr)
			}
		})
	}
}

func TestHostFlagsWantAnAbsoluteDirectory(t *testing.T) {
	inDir(t, nil)
	env, _ := testEnv(nil)
	if _, err := (&hostFlags{dataDir: "here"}).resolve(env); err == nil {
		t.Error("a relative data directory is accepted")
	}
}

func TestCompleteRoles(t *testing.T) {
	inDir(t, map[string]string{
		"roles.hcl": "role \"isv_dev\" { memory = var.none }\nrole \"runtime\" {}\nrole \"runtime2\" {}\n",
		"other.hcl": "role \"other\" {}\n",
	})
	env, stderr := testEnv(nil)
	for _, test := range []struct {
		name, file string
		args       []string
		prefix     string
		want       string
	}{
		{"all", "", nil, "", "isv_dev runtime runtime2"},
		{"with a beginning", "", nil, "run", "runtime runtime2"},
		{"without those named already", "", []string{"runtime"}, "run", "runtime2"},
		{"of another file", "other.hcl", nil, "", "other"},
		{"of no file", "none.hcl", nil, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := &cobra.Command{}
			cmd.Flags().String("file", test.file, "")
			got, directive := completeRoles(env)(cmd, test.args, test.prefix)
			if strings.Join(got, " ") != test.want || directive != cobra.ShellCompDirectiveNoFileComp || stderr.Len() > 0 {
				t.Errorf("completions %q, %v, stderr %q", got, directive, stderr)
			}
		})
	}
}

func TestCompleteTargets(t *testing.T) {
	inDir(t, map[string]string{"roles.hcl": "role \"isv_dev\" {}\n", "other.hcl": "role \"runtime\" {}\n"})
	for args, want := range map[string]string{
		"plan --target":            "isv_dev",
		"apply other.hcl --target": "runtime",
		"destroy --target":         "isv_dev",
	} {
		env, _ := testEnv(nil)
		env.Args = append(append([]string{cobra.ShellCompNoDescRequestCmd}, strings.Fields(args)...), "")
		if code := Run(t.Context(), env); code != 0 || !strings.HasPrefix(env.Stdout.(*bytes.Buffer).String(), want+"\n:4\n") {
			t.Errorf("%s: exit %d, %q, want %q", args, code, env.Stdout, want)
		}
	}
}
