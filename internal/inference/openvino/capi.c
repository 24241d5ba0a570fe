#include "capi.h"

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INVALID_C_PARAM = -14 };

// why is what went wrong with a call.
static char *why(const ovsa_api *api, ov_status_e status) {
	if (status == 0)
		return NULL;
	char *text = NULL;
	// A wrong parameter leaves no message: the last is of another call.
	const char *last = status == INVALID_C_PARAM ? NULL : api->ov_get_last_err_msg();
	if (last) {
		text = strdup(last);
		api->ov_free(last);
	}
	if (!text || !*text) {
		free(text);
		const char *info = api->ov_get_error_info(status);
		text = strdup(info ? info : "an error without a message");
	}
	return text;
}

// take gives a text of OpenVINO's the memory of ours.
static char *take(const ovsa_api *api, const char *text) {
	char *copy = strdup(text ? text : "");
	api->ov_free(text);
	return copy;
}

char *ovsa_open(const char *path, ovsa_api **out) {
	ovsa_api *api = calloc(1, sizeof *api);
	if (!api)
		return strdup("out of memory");
	const char *missing = NULL;
	if (!(api->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL))) {
		const char *text = dlerror();
		free(api);
		return strdup(text ? text : "it cannot be loaded");
	}
#define OVSA_FIND(result, name, parameters) \
	if (!(*(void **)&api->name = dlsym(api->handle, #name))) \
		missing = #name;
	OVSA_FUNCTIONS(OVSA_FIND)
	if (missing) {
		char text[128];
		snprintf(text, sizeof text, "it has no function %s", missing);
		ovsa_close(api);
		return strdup(text);
	}
	*out = api;
	return NULL;
}

void ovsa_close(ovsa_api *api) {
	// The library stays: its threads may still be there.
	free(api);
}

char *ovsa_version(const ovsa_api *api, char **version) {
	ov_version_t v = {0};
	char *err = why(api, api->ov_get_openvino_version(&v));
	if (err)
		return err;
	*version = strdup(v.buildNumber ? v.buildNumber : "");
	api->ov_version_free(&v);
	return NULL;
}

char *ovsa_type_size(const ovsa_api *api, ov_element_type_e type, size_t *size) {
	int64_t dims[] = {1};
	ov_shape_t shape = {.rank = 1, .dims = dims};
	ov_tensor_t *tensor = NULL;
	char *err = why(api, api->ov_tensor_create(type, shape, &tensor));
	if (err)
		return err;
	err = why(api, api->ov_tensor_get_byte_size(tensor, size));
	api->ov_tensor_free(tensor);
	return err;
}

// The plugin of CPUs, when it is loaded, gives the thread another stack for signals, and
// takes its memory back when it is unloaded, by whatever thread. Go has one already, which
// is larger, and signals threads all the time. So the plugin is loaded here, with no
// signal in between, and the thread gets its own back. It looks for this, and minds not.
char *ovsa_core(const ovsa_api *api, const char *device, ov_core_t **core) {
	char *err = why(api, api->ov_core_create(core));
	if (err)
		return err;
	sigset_t all, before;
	stack_t stack;
	char *name = NULL;
	sigfillset(&all);
	if (sigaltstack(NULL, &stack) || pthread_sigmask(SIG_SETMASK, &all, &before))
		return strdup("signals cannot be held back");
	err = why(api, api->ov_core_get_property(*core, device, "FULL_DEVICE_NAME", &name));
	sigaltstack(&stack, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!err)
		api->ov_free(name);
	return err;
}

void ovsa_core_free(const ovsa_api *api, ov_core_t *core) { api->ov_core_free(core); }

char *ovsa_set(const ovsa_api *api, const ov_core_t *core, const char *device, const char *key, const char *value) {
	return why(api, api->ov_core_set_property(core, device, key, value));
}

char *ovsa_get(const ovsa_api *api, const ov_core_t *core, const char *device, const char *key, char **value) {
	char *text = NULL;
	char *err = why(api, api->ov_core_get_property(core, device, key, &text));
	if (!err)
		*value = take(api, text);
	return err;
}

char *ovsa_compile(const ovsa_api *api, const ov_core_t *core, const char *device, const char *path, const char *weights, ov_compiled_model_t **compiled) {
	ov_model_t *model = NULL;
	char *err = why(api, api->ov_core_read_model(core, path, weights, &model));
	if (err)
		return err;
	err = why(api, api->ov_core_compile_model(core, model, device, 0, compiled));
	api->ov_model_free(model);
	return err;
}

void ovsa_compiled_free(const ovsa_api *api, ov_compiled_model_t *compiled) { api->ov_compiled_model_free(compiled); }

char *ovsa_get_compiled(const ovsa_api *api, const ov_compiled_model_t *compiled, const char *key, char **value) {
	char *text = NULL;
	char *err = why(api, api->ov_compiled_model_get_property(compiled, key, &text));
	if (!err)
		*value = take(api, text);
	return err;
}

char *ovsa_ports(const ovsa_api *api, const ov_compiled_model_t *compiled, size_t *inputs, size_t *outputs) {
	char *err = why(api, api->ov_compiled_model_inputs_size(compiled, inputs));
	return err ? err : why(api, api->ov_compiled_model_outputs_size(compiled, outputs));
}

// describe is ovsa_describe of a port that is freed by the caller, as is what it has put
// into d when it fails.
static char *describe(const ovsa_api *api, const ov_output_const_port_t *port, ovsa_port *d) {
	char *name = NULL;
	if (api->ov_port_get_any_name(port, &name) == 0) // not so where it has none
		d->name = take(api, name);
	char *err = why(api, api->ov_port_get_element_type(port, &d->type));
	ov_partial_shape_t shape = {0};
	if (!err)
		err = why(api, api->ov_port_get_partial_shape(port, &shape));
	if (err)
		return err;
	d->rank = shape.rank.min == shape.rank.max ? shape.rank.min : -1;
	if (d->rank > 0 && !(d->dims = calloc(d->rank, sizeof *d->dims)))
		err = strdup("out of memory");
	for (int64_t i = 0; !err && i < d->rank; i++)
		d->dims[i] = shape.dims[i].min == shape.dims[i].max ? shape.dims[i].min : -1;
	api->ov_partial_shape_free(&shape);
	return err;
}

char *ovsa_describe(const ovsa_api *api, const ov_compiled_model_t *compiled, int output, size_t at, ovsa_port *d) {
	ov_output_const_port_t *port = NULL;
	char *err = why(api, output ? api->ov_compiled_model_output_by_index(compiled, at, &port) : api->ov_compiled_model_input_by_index(compiled, at, &port));
	if (err)
		return err;
	err = describe(api, port, d);
	api->ov_output_const_port_free(port);
	return err;
}

void ovsa_port_free(ovsa_port *port) {
	free(port->name);
	free(port->dims);
}

char *ovsa_request(const ovsa_api *api, const ov_compiled_model_t *compiled, ov_infer_request_t **request) {
	return why(api, api->ov_compiled_model_create_infer_request(compiled, request));
}

void ovsa_request_free(const ovsa_api *api, ov_infer_request_t *request) { api->ov_infer_request_free(request); }

// fill copies into a tensor that is made as large as it must be.
static char *fill(const ovsa_api *api, ov_tensor_t *tensor, const ov_shape_t shape, const void *data, size_t size) {
	size_t has = 0;
	void *to = NULL;
	char *err = why(api, api->ov_tensor_set_shape(tensor, shape));
	if (!err)
		err = why(api, api->ov_tensor_get_byte_size(tensor, &has));
	if (!err && has != size)
		err = strdup("its data is not as long as its shape says");
	if (err || size == 0)
		return err;
	err = why(api, api->ov_tensor_data(tensor, &to));
	if (!err)
		memcpy(to, data, size);
	return err;
}

char *ovsa_set_input(const ovsa_api *api, ov_infer_request_t *request, size_t at, int64_t rank, int64_t *dims, const void *data, size_t size) {
	ov_shape_t shape = {.rank = rank, .dims = dims};
	ov_tensor_t *tensor = NULL;
	char *err = why(api, api->ov_infer_request_get_input_tensor_by_index(request, at, &tensor));
	if (err)
		return err;
	err = fill(api, tensor, shape, data, size);
	api->ov_tensor_free(tensor);
	return err;
}

char *ovsa_infer(const ovsa_api *api, ov_infer_request_t *request) { return why(api, api->ov_infer_request_infer(request)); }

void ovsa_cancel(const ovsa_api *api, ov_infer_request_t *request) { (void)!api->ov_infer_request_cancel(request); }

char *ovsa_get_output(const ovsa_api *api, const ov_infer_request_t *request, size_t at, ovsa_output *o) {
	char *err = why(api, api->ov_infer_request_get_output_tensor_by_index(request, at, &o->tensor));
	if (!err)
		err = why(api, api->ov_tensor_get_shape(o->tensor, &o->shape));
	if (!err)
		err = why(api, api->ov_tensor_get_byte_size(o->tensor, &o->size));
	if (!err && o->size > 0)
		err = why(api, api->ov_tensor_data(o->tensor, &o->data));
	return err;
}

void ovsa_output_free(const ovsa_api *api, ovsa_output *o) {
	if (o->shape.dims)
		api->ov_shape_free(&o->shape);
	if (o->tensor)
		api->ov_tensor_free(o->tensor);
}
