package hosting

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// guideConfig is the guide's sample.json, as it is printed there.
const guideConfig = `	{
	"custom_loader_config_list":[
		{
			"config":{
					"loader_name":"ovsa",
					"library_path": "/ovsa-runtime/lib/libovsaruntime.so"
			}
		}
	],
	"model_config_list":[
		{
		"config":{
			"name":"controlled-access-model",
			"base_path":"/opt/ovsa/kvm/artefacts/fd",
			"custom_loader_options": {"loader_name":  "ovsa", "keystore":  "/opt/ovsa/kvm/keystore/custkeystore", "controlled_access_file": "face_detection_model"}
		}
		}
	]
	}
`

func TestGuideConfig(t *testing.T) {
	c, err := ParseConfig([]byte(guideConfig))
	if err != nil {
		t.Fatal(err)
	}
	want := ModelConfig{Name: "controlled-access-model", BasePath: "/opt/ovsa/kvm/artefacts/fd", KeyStore: "/opt/ovsa/kvm/keystore/custkeystore", Stem: "face_detection_model"}
	if len(c.Models) != 1 || c.Models[0] != want || len(c.Ignored) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestConfigs(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(guideConfig, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(guideConfig, old, new, 1)
	}
	second := guideConfig[strings.Index(guideConfig, `"model_config_list":[`)+len(`"model_config_list":[`) : strings.LastIndex(guideConfig, "]")]
	for name, tt := range map[string]struct{ config, want string }{
		"empty":               {"", "the configuration is wrong: is missing"},
		"no JSON":             {"models: 1", "is no JSON"},
		"a list":              {"[]", "is no JSON object"},
		"cut":                 {guideConfig[:300], "is no JSON"},
		"more":                {guideConfig + "{}", "has more behind its end"},
		"no models":           {`{"model_config_list":[]}`, "model_config_list has 0 models, want 1 to 256"},
		"no list":             {`{"model_config_list":{}}`, "model_config_list is no list"},
		"nothing":             {`{}`, "model_config_list is missing"},
		"another server's":    {`{"model_config_list":[{"config":{"name":"m","base_path":"/m"}}]}`, "model_config_list[0].config.custom_loader_options is missing"},
		"another loader":      {change(`"loader_name":  "ovsa"`, `"loader_name": "other"`), `model_config_list[0].config.custom_loader_options.loader_name is "other", want "ovsa"`},
		"no name":             {change(`"name":"controlled-access-model",`, ""), "model_config_list[0].config.name is missing"},
		"an empty name":       {change(`controlled-access-model`, ""), "model_config_list[0].config.name is no text, or an empty one"},
		"a number":            {change(`"controlled-access-model"`, "1"), "model_config_list[0].config.name is no text"},
		"a path for a name":   {change(`controlled-access-model`, "../x"), `name "../x" is no name`},
		"dots for a name":     {change(`controlled-access-model`, ".."), `name ".." is no name`},
		"a long name":         {change(`controlled-access-model`, strings.Repeat("x", 129)), `is no name`},
		"a relative path":     {change(`/opt/ovsa/kvm/artefacts/fd`, "fd"), `base_path "fd" does not begin with /`},
		"a relative keystore": {change(`/opt/ovsa/kvm/keystore/custkeystore`, "store"), `keystore "store" does not begin with /`},
		"a path for a stem":   {change(`"face_detection_model"`, `"../../etc/x"`), `controlled_access_file "../../etc/x" is not the name of a file`},
		"twice":               {change(`"model_config_list":[`, `"model_config_list":[`+second+","), `model_config_list[1].config.name "controlled-access-model" is there twice`},
		"a member twice":      {change(`"name":`, `"name":"other","name":`), "model_config_list[0].config.name is there twice"},
	} {
		_, err := ParseConfig([]byte(tt.config))
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// What means something to OpenVINO Model Server alone is no mistake, and is told.
func TestIgnored(t *testing.T) {
	c, err := ParseConfig([]byte(strings.Replace(guideConfig, `"name":`, `"nireq": 4, "name":`, 1)))
	if err != nil || !slices.Equal(c.Ignored, []string{"model_config_list[0].config.nireq"}) {
		t.Errorf("%v, %v", c.Ignored, err)
	}
}

func TestVersions(t *testing.T) {
	dir := t.TempDir()
	m := ModelConfig{Name: "m", BasePath: dir, Stem: "face"}
	if _, err := m.Versions(); err == nil || !strings.Contains(err.Error(), "no directory in") {
		t.Errorf("none: %v", err)
	}
	for _, name := range []string{"1", "10", "2", "0", "-1", "01", "x", "+3", "9223372036854775808"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "7"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := m.Versions()
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, v := range all {
		got = append(got, v.Number)
	}
	if !slices.Equal(got, []int64{10, 2, 1}) || all[1].Dat != filepath.Join(dir, "2", "face.dat") || all[1].Lic != filepath.Join(dir, "2", "face.lic") {
		t.Errorf("%+v", all)
	}
	m.BasePath = filepath.Join(dir, "none")
	if _, err := m.Versions(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(guideConfig))
	f.Add([]byte(`{"model_config_list":[{"config":{}}]}`))
	f.Add([]byte(strings.Replace(guideConfig, `"name":`, `"nireq": {"x": [1e3, null]}, "name":`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data, Member{Name: "nireq", Fits: func(json.RawMessage) (string, bool) { return "anything", true }})
		if (err == nil) != (len(c.Models) > 0 && err == nil) {
			t.Errorf("%+v, %v", c, err)
		}
		for _, m := range c.Models {
			if !isName(m.Name) || filepath.Base(m.Stem) != m.Stem || m.Engine != "" && !json.Valid([]byte(m.Engine)) {
				t.Errorf("%+v", m)
			}
		}
	})
}
