/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config_schema.c - the tables told to an editor: JSON schema, draft-07, which the YAML language servers read.
 *
 * It accepts what the reader accepts as far as a schema can say it, and never less: an editor must not mark what runs.
 */
#include "core/config.h"
#include "core/option.h"
#include "core/value.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

/* Any failed allocation shows at the end as a missing object; jansson's setters take NULL and fail. */
static json_t *text_or_number(void)
{
	return json_pack("{s:[s,s]}", "type", "string", "integer");
}

/* A scalar, or a list of at least `min` of them. */
static json_t *one_or_list(json_t *item, int min)
{
	json_t *copy = json_deep_copy(item);
	return json_pack("{s:[o,{s:s,s:o,s:i}]}", "anyOf", item, "type", "array", "items", copy, "minItems", min);
}

static json_t *text_of(const struct mr_option *o)
{
	json_t *text = text_or_number();
	if (o->type == MR_TYPE_NAME)
		json_object_set_new(text, "pattern", json_string("^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"));
	else
		json_object_set_new(text, "minLength", json_integer(o->min ? (json_int_t)o->min : 1));
	if (o->type == MR_TYPE_STRING && o->max)
		json_object_set_new(text, "maxLength", json_integer((json_int_t)o->max));
	return text;
}

/* To the reader every word is text; to an editor an unquoted true or no is a boolean. */
static json_t *words_of(const char *const *values)
{
	json_t *list = json_array();
	for (; *values; values++) {
		bool truth;
		json_array_append_new(list, json_string(*values));
		if (mr_value_bool(*values, &truth))
			json_array_append_new(list, json_boolean(truth));
	}
	return json_pack("{s:o}", "enum", list);
}

static json_t *object_of(const struct mr_option *table);

static json_t *list_of(const struct mr_option *o)
{
	json_t *list = json_pack("{s:s,s:o}", "type", "array", "items", object_of(o->table));
	if (!o->values)
		return list;
	return json_pack("{s:[o,o]}", "anyOf", words_of(o->values), list);
}

static json_t *map_of(json_t *element)
{
	return json_pack("{s:[s,s],s:{s:s},s:o}", "type", "object", "null", "propertyNames", "pattern",
		"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$", "additionalProperties", element);
}

/* Plain numbers carry their range; those with a suffix are text and carry the form. */
static json_t *number_of(const struct mr_option *o)
{
	json_t *plain = json_pack("{s:s}", "type", "integer");
	json_object_set_new(plain, "minimum", json_integer((json_int_t)o->min));
	if (o->max && o->max <= INT64_MAX)
		json_object_set_new(plain, "maximum", json_integer((json_int_t)o->max));
	if (o->values)
		return json_pack("{s:[o,{s:s}]}", "anyOf", plain, "const", o->values[0]);
	return json_pack("{s:[o,{s:s,s:s}]}", "anyOf", plain, "type", "string", "pattern",
		o->type == MR_TYPE_BYTES ? "^[0-9]+(\\.[0-9]+)?([kMGT]i?|Ki)?B?$"
					 : "^[0-9]+(\\.[0-9]+)?([kMGT]|[KMG]i)?$");
}

static json_t *value_of(const struct mr_option *o)
{
	switch (o->type) {
	case MR_TYPE_BOOL:
		return json_pack("{s:[{s:s},{s:[s,s,s,s,s,s]}]}", "anyOf", "type", "boolean", "enum", "true", "yes",
			"on", "false", "no", "off");
	case MR_TYPE_UINT:
	case MR_TYPE_BYTES:
		return number_of(o);
	case MR_TYPE_DURATION:
		return json_pack("{s:[{s:s,s:s},{s:i}]}", "anyOf", "type", "string", "pattern",
			"^([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h|d)|0)$", "const", 0);
	case MR_TYPE_RATE:
		return json_pack(
			"{s:s,s:s}", "type", "string", "pattern", "^[0-9]+(\\.[0-9]+)?([kMGT]|[KMG]i)?(pps|bps|/s)$");
	case MR_TYPE_ENUM:
		return words_of(o->values);
	case MR_TYPE_STRING:
	case MR_TYPE_NAME:
		return text_of(o);
	case MR_TYPE_PREFIX:
	case MR_TYPE_ADDRESS:
	case MR_TYPE_TCP_FLAGS:
		return json_pack("{s:s}", "type", "string");
	case MR_TYPE_PREFIX_LIST:
		return one_or_list(json_pack("{s:s}", "type", "string"), 1);
	case MR_TYPE_OBJECT: { /* `flows:` with every key commented out is all defaults */
		json_t *object = object_of(o->table);
		json_object_set_new(object, "type", json_pack("[s,s]", "object", "null"));
		return object;
	}
	case MR_TYPE_LIST:
		return list_of(o);
	case MR_TYPE_MAP:
		return map_of(object_of(o->table));
	case MR_TYPE_NODE:
	case MR_TYPE_END:
		return json_object();
	default:
		return one_or_list(text_or_number(), !o->may_be_empty);
	}
}

static void add_properties(json_t *properties, json_t *required, const struct mr_option *table)
{
	for (const struct mr_option *o = table; o && o->key; o++) {
		char want[256], help[512];
		json_t *v = value_of(o);
		snprintf(help, sizeof(help), "%s (%s)", o->help ? o->help : "", mr_option_want(o, want, sizeof(want)));
		json_object_set_new(v, "description", json_string(help));
		if (o->fallback)
			json_object_set_new(v, "default", json_string(o->fallback));
		json_object_set_new(properties, o->key, v);
		if (o->required)
			json_array_append_new(required, json_string(o->key));
	}
}

static json_t *object_with(const struct mr_option *table, json_t *properties)
{
	json_t *required = json_array();
	add_properties(properties, required, table);
	json_t *object =
		json_pack("{s:s,s:o,s:b}", "type", "object", "properties", properties, "additionalProperties", 0);
	if (json_array_size(required))
		json_object_set(object, "required", required);
	json_decref(required);
	return object;
}

static json_t *object_of(const struct mr_option *table)
{
	return object_with(table, json_object());
}

/* A stage's keys follow from its type; the types of plugins are not known here and take any key. */
static json_t *stages_of(const struct mr_config_stage_type *types, unsigned type_cnt)
{
	json_t *names = json_array(), *rules = json_array();
	for (unsigned i = 0; i < type_cnt; i++) {
		json_t *then = object_with(types[i].options, json_pack("{s:{}}", "type"));
		json_array_append_new(names, json_string(types[i].name));
		json_array_append_new(rules,
			json_pack("{s:{s:{s:{s:s}}},s:o}", "if", "properties", "type", "const", types[i].name, "then",
				then));
	}
	json_t *stage = json_pack("{s:s,s:[s],s:{s:{s:s,s:s,s:o}}}", "type", "object", "required", "type", "properties",
		"type", "type", "string", "description", "which kind of stage", "examples", names);
	if (type_cnt)
		json_object_set(stage, "allOf", rules);
	json_decref(rules);
	return map_of(stage);
}

int mr_config_schema(FILE *out, const struct mr_config_stage_type *types, unsigned type_cnt)
{
	json_t *root = object_of(mr_config_options()), *properties = json_object_get(root, "properties");
	json_t *old = json_object_get(properties, "stages"), *stages = stages_of(types, type_cnt);
	if (!root || !stages) {
		json_decref(root);
		json_decref(stages);
		return -ENOMEM;
	}
	json_object_set(stages, "description", json_object_get(old, "description"));
	json_object_set_new(properties, "stages", stages);
	json_object_set_new(root, "$schema", json_string("http://json-schema.org/draft-07/schema#"));
	json_object_set_new(root, "title", json_string("Millrace configuration, version 1"));
	int err = json_dumpf(root, out, JSON_INDENT(2)) ? -ENOMEM : 0;
	json_decref(root);
	fputc('\n', out);
	return err ? err : ferror(out) ? -EIO : 0;
}
