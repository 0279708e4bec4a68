package sdk

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// SettingsOf makes the settings of a manifest of a struct, which Settings.Decode fills later. Its fields are the
// settings, and their values the defaults:
//
//	type config struct {
//		Devices []device `json:"devices" help:"devices that may be made" pattern:"[cb] [0-9]+:[0-9]+" example:"c 1:3"`
//		Most    int      `json:"most" help:"how many of them" min:"1" max:"1000"`
//	}
//
// The json tag is the key. The other tags are the fields of Setting; an integer has the bounds of its Go type where
// it has no others. Types are those of SettingType: bool, the integer types, string, lists of strings and maps of
// strings to strings. What has UnmarshalText (encoding.TextUnmarshaler) stands for a string; it needs MarshalText for
// its default. An error of UnmarshalText refuses a container, so that the pattern should say what it takes: the
// broker checks that when it reads the config.
//
// What is wrong with the struct is an error of the manifest.
func SettingsOf(defaults any) []Setting {
	value := reflect.ValueOf(defaults)
	if value.Kind() != reflect.Struct {
		return []Setting{{fault: fmt.Errorf("settings of a %T: want a struct", defaults)}}
	}
	var settings []Setting
	for i := range value.NumField() {
		settings = append(settings, settingOf(value.Type().Field(i), value.Field(i)))
	}
	return settings
}

// settingOf makes the setting of a field.
func settingOf(field reflect.StructField, value reflect.Value) Setting {
	key, options, _ := strings.Cut(field.Tag.Get("json"), ",")
	s := Setting{Key: key, Help: field.Tag.Get("help"), Pattern: field.Tag.Get("pattern"), Example: field.Tag.Get("example")}
	var faults []error
	if !field.IsExported() {
		faults = append(faults, errors.New("it is not exported"))
	} else {
		s.Default = defaultOf(value)
	}
	if key == "" || key == "-" || options != "" {
		faults = append(faults, errors.New("its json tag is to be the key of the setting, and nothing else"))
	}
	if s.Type = typeOf(field.Type); s.Type == 0 {
		faults = append(faults, fmt.Errorf("there is no setting of type %v", field.Type))
	}
	s.Min, s.Max = bounds(field.Type)
	for tag, bound := range map[string]**int64{"min": &s.Min, "max": &s.Max} {
		if text, given := field.Tag.Lookup(tag); given {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				faults = append(faults, fmt.Errorf("its tag %s: %w", tag, err))
			}
			*bound = &n
		}
	}
	if err := errors.Join(faults...); err != nil {
		s.fault = fmt.Errorf("field %s: %w", field.Name, err)
	}
	return s
}

// typeOf is the type of a setting that a Go type is filled from; 0: there is none.
func typeOf(t reflect.Type) SettingType {
	switch {
	case isText(t):
		return String
	case t.Kind() == reflect.Bool:
		return Bool
	case isInteger(t):
		return Int
	case t.Kind() == reflect.Slice && isText(t.Elem()):
		return StringList
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && isText(t.Elem()):
		return StringMap
	}
	return 0
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) || t.Kind() == reflect.String
}

func isInteger(t reflect.Type) bool { return reflect.Zero(t).CanInt() || reflect.Zero(t).CanUint() }

// bounds are those of an integer type; nil: as large as a setting can be, or it is none.
func bounds(t reflect.Type) (least, most *int64) {
	if isText(t) || !isInteger(t) {
		return nil, nil
	}
	bits := t.Bits()
	switch {
	case reflect.Zero(t).CanInt() && bits < 64:
		return new(int64(-1) << (bits - 1)), new(int64(1)<<(bits-1) - 1)
	case reflect.Zero(t).CanUint() && bits < 64:
		return new(int64(0)), new(int64(1)<<bits - 1)
	case reflect.Zero(t).CanUint():
		return new(int64(0)), new(int64(math.MaxInt64))
	}
	return nil, nil
}

// defaultOf is a field's value. Lists and maps that are nil are empty ones.
func defaultOf(value reflect.Value) any {
	switch {
	case value.Kind() == reflect.Slice && value.IsNil():
		return []string{}
	case value.Kind() == reflect.Map && value.IsNil():
		return map[string]string{}
	}
	return value.Interface()
}
