package oip

import (
	"maps"
	"slices"
	"strconv"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// DecodeTraceSettings translates the body of POST /v2/trace/setting; null clears a setting, so that the one above it applies.
func DecodeTraceSettings(body []byte) (map[string]*pb.TraceSettingRequest_SettingValue, error) {
	settings := map[string]*pb.TraceSettingRequest_SettingValue{}
	err := decodeObject(body, func(s *scanner, key string) (err error) {
		value := &pb.TraceSettingRequest_SettingValue{}
		settings[key] = value
		value.Value, err = s.settingTexts()
		return err
	})
	return settings, err
}

// settingTexts reads a string, a number, an array of strings, or null, which has no text.
func (s *scanner) settingTexts() ([]string, error) {
	switch next := s.next(); {
	case next == '[':
		texts := []string{}
		err := s.array(func(int) error {
			text, err := s.string()
			texts = append(texts, text)
			return err
		})
		return texts, err
	case next == '"':
		text, err := s.string()
		return []string{text}, err
	case s.word("null"):
		return nil, nil
	}
	text, err := s.number("a string, a number, an array of strings or null")
	return []string{string(text)}, err
}

// traceLevels is the one trace setting that is an array, however many values it has.
const traceLevels = "trace_level"

// AppendTraceSettings appends the answer to GET and POST /v2/trace/setting.
func AppendTraceSettings(dst []byte, settings map[string]*pb.TraceSettingResponse_SettingValue) []byte {
	dst = append(dst, '{')
	for index, name := range slices.Sorted(maps.Keys(settings)) {
		if index > 0 {
			dst = append(dst, ',')
		}
		values := settings[name].GetValue()
		dst = append(appendString(dst, []byte(name)), ':')
		if name != traceLevels && len(values) == 1 {
			dst = appendString(dst, []byte(values[0]))
		} else {
			dst = appendStrings(dst, "", values)
		}
	}
	return append(dst, '}')
}

// DecodeLogSettings translates the body of POST /v2/logging; null leaves a setting as it is.
func DecodeLogSettings(body []byte) (map[string]*pb.LogSettingsRequest_SettingValue, error) {
	settings := map[string]*pb.LogSettingsRequest_SettingValue{}
	err := decodeObject(body, func(s *scanner, key string) error {
		value, err := s.logSetting()
		if value != nil {
			settings[key] = value
		}
		return err
	})
	return settings, err
}

func (s *scanner) logSetting() (*pb.LogSettingsRequest_SettingValue, error) {
	const wanted = "a boolean, an integer from 0 up, a string or null"
	switch next := s.next(); {
	case next == 't' || next == 'f':
		value, err := s.boolean()
		return &pb.LogSettingsRequest_SettingValue{ParameterChoice: &pb.LogSettingsRequest_SettingValue_BoolParam{BoolParam: value}}, err
	case next == '"':
		value, err := s.string()
		return &pb.LogSettingsRequest_SettingValue{ParameterChoice: &pb.LogSettingsRequest_SettingValue_StringParam{StringParam: value}}, err
	case s.word("null"):
		return nil, nil
	}
	text, err := s.number(wanted)
	if err != nil {
		return nil, err
	}
	value, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil {
		return nil, &fieldError{text: "must be " + wanted}
	}
	return &pb.LogSettingsRequest_SettingValue{ParameterChoice: &pb.LogSettingsRequest_SettingValue_Uint32Param{Uint32Param: uint32(value)}}, nil
}

// AppendLogSettings appends the answer to GET and POST /v2/logging.
func AppendLogSettings(dst []byte, settings map[string]*pb.LogSettingsResponse_SettingValue) []byte {
	dst = append(dst, '{')
	for index, name := range slices.Sorted(maps.Keys(settings)) {
		if index > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, []byte(name)), ':')
		switch value := settings[name].GetParameterChoice().(type) {
		case *pb.LogSettingsResponse_SettingValue_BoolParam:
			dst = strconv.AppendBool(dst, value.BoolParam)
		case *pb.LogSettingsResponse_SettingValue_Uint32Param:
			dst = strconv.AppendUint(dst, uint64(value.Uint32Param), 10)
		case *pb.LogSettingsResponse_SettingValue_StringParam:
			dst = appendString(dst, []byte(value.StringParam))
		default:
			dst = append(dst, "null"...)
		}
	}
	return append(dst, '}')
}
