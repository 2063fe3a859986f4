package lambda

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"time"
)

// serveOther answers the calls that other services of AWS take at POST /.
func (e *Emulator) serveOther(w http.ResponseWriter, r *http.Request) {
	id := newID()
	w.Header().Set("X-Amzn-Requestid", id)
	s, err := readSignature(r)
	target := r.Header.Get("X-Amz-Target")
	switch {
	case err != nil:
	case target == "secretsmanager.GetSecretValue":
		err = e.secretValue(w, r, s)
	case target == "" && s.service == "sts":
		err = e.callerIdentity(w, r, id)
	default:
		err = &apiError{status: http.StatusBadRequest, code: "UnknownOperationException", message: "the emulator does not know " + s.service + " " + target}
	}
	if err == nil {
		return
	}
	if target == "" { // the query protocol
		writeXML(w, err.status, struct {
			XMLName   xml.Name `xml:"ErrorResponse"`
			Type      string   `xml:"Error>Type"`
			Code      string   `xml:"Error>Code"`
			Message   string   `xml:"Error>Message"`
			RequestID string   `xml:"RequestId"`
		}{Type: "Sender", Code: err.code, Message: err.message, RequestID: id})
		return
	}
	w.Header().Set("X-Amzn-ErrorType", err.code)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	writeJSON(w, err.status, map[string]string{"__type": err.code, "Message": err.message})
}

// secretValue is Secrets Manager's GetSecretValue, by name or ARN.
func (e *Emulator) secretValue(w http.ResponseWriter, r *http.Request, s signature) *apiError {
	var req struct {
		SecretID string `json:"SecretId"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&req); err != nil {
		return &apiError{status: http.StatusBadRequest, code: "SerializationException", message: err.Error()}
	}
	prefix := "arn:aws:secretsmanager:" + s.region + ":" + e.config.Account + ":secret:"
	const suffix = "-EmuLat" // AWS adds six characters of its choice
	name := strings.TrimSuffix(strings.TrimPrefix(req.SecretID, prefix), suffix)
	if err := e.authorise("secretsmanager:GetSecretValue", prefix+name); err != nil {
		err.status = http.StatusBadRequest // as this service has it
		return err
	}
	value, ok := e.config.Secrets[name]
	if !ok {
		return &apiError{status: http.StatusBadRequest, code: "ResourceNotFoundException", message: "Secrets Manager can't find the specified secret."}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"ARN": prefix + name + suffix, "Name": name, "SecretString": value, "CreatedDate": time.Now().Unix(),
		"VersionId": "00000000-0000-4000-8000-000000000000", "VersionStages": []string{"AWSCURRENT"},
	})
	return nil
}

// callerIdentity is STS's GetCallerIdentity.
func (e *Emulator) callerIdentity(w http.ResponseWriter, r *http.Request, id string) *apiError {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil || r.PostForm.Get("Action") != "GetCallerIdentity" {
		return &apiError{status: http.StatusBadRequest, code: "InvalidAction", message: "Could not find operation " + r.PostForm.Get("Action") + " for version 2011-06-15"}
	}
	writeXML(w, http.StatusOK, struct {
		XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
		ARN       string   `xml:"GetCallerIdentityResult>Arn"`
		UserID    string   `xml:"GetCallerIdentityResult>UserId"`
		Account   string   `xml:"GetCallerIdentityResult>Account"`
		RequestID string   `xml:"ResponseMetadata>RequestId"`
	}{ARN: e.caller(), UserID: "AIDAEMULATOR00000000", Account: e.config.Account, RequestID: id})
	return nil
}

func writeXML(w http.ResponseWriter, status int, v any) {
	b, err := xml.Marshal(v)
	if err != nil {
		panic(err) // a type of ours
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that left is no concern of ours
}
