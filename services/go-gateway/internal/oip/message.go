package oip

import (
	"encoding/base64"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// AppendMessage appends a protobuf message as Triton writes it in JSON: fields under their names in the .proto, 64-bit
// integers as numbers, bytes in base64; numbers, lists and maps also where they are zero or empty, messages only where they
// are present. protojson, which differs in its integers and its spaces, is therefore of no use here.
func AppendMessage(dst []byte, message proto.Message) []byte {
	return appendMessage(dst, message.ProtoReflect())
}

func appendMessage(dst []byte, message protoreflect.Message) []byte {
	dst = append(dst, '{')
	fields, first := message.Descriptor().Fields(), true
	for index := range fields.Len() {
		field := fields.Get(index)
		if field.HasPresence() && !message.Has(field) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendString(dst, []byte(field.TextName())), ':')
		dst = appendValue(dst, field, message.Get(field))
	}
	return append(dst, '}')
}

func appendValue(dst []byte, field protoreflect.FieldDescriptor, value protoreflect.Value) []byte {
	switch {
	case field.IsList():
		return appendList(dst, field, value.List())
	case field.IsMap():
		return appendMap(dst, field, value.Map())
	}
	return appendSingle(dst, field, value)
}

func appendList(dst []byte, field protoreflect.FieldDescriptor, list protoreflect.List) []byte {
	dst = append(dst, '[')
	for index := range list.Len() {
		if index > 0 {
			dst = append(dst, ',')
		}
		dst = appendSingle(dst, field, list.Get(index))
	}
	return append(dst, ']')
}

// appendMap writes the entries in the order of their keys.
func appendMap(dst []byte, field protoreflect.FieldDescriptor, values protoreflect.Map) []byte {
	texts := make(map[string]protoreflect.MapKey, values.Len())
	keys := make([]string, 0, values.Len())
	for key := range values.Range {
		texts[key.String()] = key
		keys = append(keys, key.String())
	}
	slices.Sort(keys)
	dst = append(dst, '{')
	for index, key := range keys {
		if index > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, []byte(key)), ':')
		dst = appendSingle(dst, field.MapValue(), values.Get(texts[key]))
	}
	return append(dst, '}')
}

func appendSingle(dst []byte, field protoreflect.FieldDescriptor, value protoreflect.Value) []byte {
	switch field.Kind() { //nolint:exhaustive // the others are integers
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return appendMessage(dst, value.Message())
	case protoreflect.StringKind:
		return appendString(dst, []byte(value.String()))
	case protoreflect.BytesKind:
		return appendString(dst, []byte(base64.StdEncoding.EncodeToString(value.Bytes())))
	case protoreflect.EnumKind:
		return appendEnum(dst, field.Enum(), value.Enum())
	case protoreflect.FloatKind:
		return strconv.AppendFloat(dst, value.Float(), 'g', -1, 32)
	case protoreflect.DoubleKind:
		return strconv.AppendFloat(dst, value.Float(), 'g', -1, 64)
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, value.Bool())
	}
	return append(dst, value.String()...)
}

// appendEnum writes the name of a value, or the number of one that a newer backend has.
func appendEnum(dst []byte, enum protoreflect.EnumDescriptor, number protoreflect.EnumNumber) []byte {
	if known := enum.Values().ByNumber(number); known != nil {
		return appendString(dst, []byte(known.Name()))
	}
	return strconv.AppendInt(dst, int64(number), 10)
}
