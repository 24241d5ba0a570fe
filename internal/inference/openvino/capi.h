// What we use of OpenVINO's C interface (openvino/c/*.h of 2026.4), in our own words: the
// library is found when the program runs, so nothing of it is needed to build. A test
// compiles this against the vendor's headers.
#ifndef OVSA_OPENVINO_CAPI_H
#define OVSA_OPENVINO_CAPI_H

#include <stddef.h>
#include <stdint.h>

#ifndef OVSA_VENDOR_HEADERS
typedef int ov_status_e;
typedef unsigned ov_element_type_e; // its values are in types.go

typedef struct ov_core ov_core_t;
typedef struct ov_model ov_model_t;
typedef struct ov_compiled_model ov_compiled_model_t;
typedef struct ov_infer_request ov_infer_request_t;
typedef struct ov_output_const_port ov_output_const_port_t;
typedef struct ov_tensor ov_tensor_t;

typedef struct {
	const char *buildNumber;
	const char *description;
} ov_version_t;

typedef struct {
	int64_t rank;
	int64_t *dims;
} ov_shape_t;

typedef struct {
	int64_t min;
	int64_t max; // -1 for none
} ov_dimension_t;

typedef struct {
	ov_dimension_t rank;
	ov_dimension_t *dims;
} ov_partial_shape_t;
#endif

// OVSA_FUNCTIONS are the functions: result, name, parameters.
#define OVSA_FUNCTIONS(F) \
	F(const char *, ov_get_error_info, (ov_status_e)) \
	F(const char *, ov_get_last_err_msg, ()) \
	F(void, ov_free, (const char *)) \
	F(ov_status_e, ov_get_openvino_version, (ov_version_t *)) \
	F(void, ov_version_free, (ov_version_t *)) \
	F(ov_status_e, ov_core_create, (ov_core_t **)) \
	F(void, ov_core_free, (ov_core_t *)) \
	F(ov_status_e, ov_core_set_property, (const ov_core_t *, const char *, ...)) \
	F(ov_status_e, ov_core_get_property, (const ov_core_t *, const char *, const char *, char **)) \
	F(ov_status_e, ov_core_read_model, (const ov_core_t *, const char *, const char *, ov_model_t **)) \
	F(void, ov_model_free, (ov_model_t *)) \
	F(ov_status_e, ov_core_compile_model, (const ov_core_t *, const ov_model_t *, const char *, const size_t, ov_compiled_model_t **, ...)) \
	F(void, ov_compiled_model_free, (ov_compiled_model_t *)) \
	F(ov_status_e, ov_compiled_model_get_property, (const ov_compiled_model_t *, const char *, char **)) \
	F(ov_status_e, ov_compiled_model_inputs_size, (const ov_compiled_model_t *, size_t *)) \
	F(ov_status_e, ov_compiled_model_outputs_size, (const ov_compiled_model_t *, size_t *)) \
	F(ov_status_e, ov_compiled_model_input_by_index, (const ov_compiled_model_t *, const size_t, ov_output_const_port_t **)) \
	F(ov_status_e, ov_compiled_model_output_by_index, (const ov_compiled_model_t *, const size_t, ov_output_const_port_t **)) \
	F(void, ov_output_const_port_free, (ov_output_const_port_t *)) \
	F(ov_status_e, ov_port_get_any_name, (const ov_output_const_port_t *, char **)) \
	F(ov_status_e, ov_port_get_element_type, (const ov_output_const_port_t *, ov_element_type_e *)) \
	F(ov_status_e, ov_port_get_partial_shape, (const ov_output_const_port_t *, ov_partial_shape_t *)) \
	F(void, ov_partial_shape_free, (ov_partial_shape_t *)) \
	F(ov_status_e, ov_compiled_model_create_infer_request, (const ov_compiled_model_t *, ov_infer_request_t **)) \
	F(void, ov_infer_request_free, (ov_infer_request_t *)) \
	F(ov_status_e, ov_infer_request_get_input_tensor_by_index, (const ov_infer_request_t *, const size_t, ov_tensor_t **)) \
	F(ov_status_e, ov_infer_request_get_output_tensor_by_index, (const ov_infer_request_t *, const size_t, ov_tensor_t **)) \
	F(ov_status_e, ov_infer_request_infer, (ov_infer_request_t *)) \
	F(ov_status_e, ov_infer_request_cancel, (ov_infer_request_t *)) \
	F(ov_status_e, ov_tensor_create, (const ov_element_type_e, const ov_shape_t, ov_tensor_t **)) \
	F(ov_status_e, ov_tensor_set_shape, (ov_tensor_t *, const ov_shape_t)) \
	F(ov_status_e, ov_tensor_get_shape, (const ov_tensor_t *, ov_shape_t *)) \
	F(ov_status_e, ov_tensor_get_byte_size, (const ov_tensor_t *, size_t *)) \
	F(ov_status_e, ov_tensor_data, (const ov_tensor_t *, void **)) \
	F(void, ov_tensor_free, (ov_tensor_t *)) \
	F(ov_status_e, ov_shape_free, (ov_shape_t *))

#define OVSA_MEMBER(result, name, parameters) result(*name) parameters;
typedef struct {
	void *handle;
	OVSA_FUNCTIONS(OVSA_MEMBER)
} ovsa_api;

// A port of a model. The name is NULL where it has none; rank is -1 where it may be any,
// and a dimension where that may be.
typedef struct {
	char *name;
	ov_element_type_e type;
	int64_t rank;
	int64_t *dims;
} ovsa_port;

// What an output holds. All of it is the tensor's, until ovsa_output_free.
typedef struct {
	ov_tensor_t *tensor;
	ov_shape_t shape;
	void *data;
	size_t size;
} ovsa_output;

// Each of these returns NULL, or why not, which is the caller's to free(). An error is
// asked for by the thread that has it, and at once: OpenVINO has one place for the last.
char *ovsa_open(const char *path, ovsa_api **api);
char *ovsa_version(const ovsa_api *api, char **version);
char *ovsa_type_size(const ovsa_api *api, ov_element_type_e type, size_t *size);
char *ovsa_core(const ovsa_api *api, const char *device, ov_core_t **core);
char *ovsa_set(const ovsa_api *api, const ov_core_t *core, const char *device, const char *key, const char *value);
char *ovsa_get(const ovsa_api *api, const ov_core_t *core, const char *device, const char *key, char **value);
char *ovsa_compile(const ovsa_api *api, const ov_core_t *core, const char *device, const char *model, const char *weights, ov_compiled_model_t **compiled);
char *ovsa_get_compiled(const ovsa_api *api, const ov_compiled_model_t *compiled, const char *key, char **value);
char *ovsa_ports(const ovsa_api *api, const ov_compiled_model_t *compiled, size_t *inputs, size_t *outputs);
char *ovsa_describe(const ovsa_api *api, const ov_compiled_model_t *compiled, int output, size_t at, ovsa_port *port);
char *ovsa_request(const ovsa_api *api, const ov_compiled_model_t *compiled, ov_infer_request_t **request);
char *ovsa_set_input(const ovsa_api *api, ov_infer_request_t *request, size_t at, int64_t rank, int64_t *dims, const void *data, size_t size);
char *ovsa_infer(const ovsa_api *api, ov_infer_request_t *request);
char *ovsa_get_output(const ovsa_api *api, const ov_infer_request_t *request, size_t at, ovsa_output *output);

void ovsa_port_free(ovsa_port *port);
void ovsa_output_free(const ovsa_api *api, ovsa_output *output);
void ovsa_cancel(const ovsa_api *api, ov_infer_request_t *request);
void ovsa_request_free(const ovsa_api *api, ov_infer_request_t *request);
void ovsa_compiled_free(const ovsa_api *api, ov_compiled_model_t *compiled);
void ovsa_core_free(const ovsa_api *api, ov_core_t *core);
void ovsa_close(ovsa_api *api);

#endif
