package setxattr

import (
	"fmt"

	"github.com/intercede/intercede/sdk"
)

var _ sdk.Validator = handler{}

// Validate implements sdk.Validator.
func (handler) Validate(s sdk.Settings) []sdk.Finding {
	var c config
	if err := s.Decode(&c); err != nil {
		return []sdk.Finding{{Text: err.Error()}}
	}
	var findings []sdk.Finding
	for _, text := range c.Attributes {
		if r, err := parseAttribute(text, c.MaxSize); err != nil {
			findings = append(findings, sdk.Finding{Key: attributesSetting, Text: err.Error()})
		} else if danger := r.danger(); danger != "" {
			findings = append(findings, sdk.Finding{Key: attributesSetting, Text: fmt.Sprintf("%q: %s", text, danger), Warning: true})
		}
	}
	return findings
}
